//! Mutual TLS for gRPC: credentials on disk become live trust, [`serve`] accepts whom it believes, and
//! [`connect`] gives a channel to the server that proves to be the expected one.
//!
//! This crate knows who a peer is. It never knows a policy or the name of an RPC.
//!
//! ```no_run
//! use countersign_mtls::{Incoming, Limits, Reload, Source, Trust, bind};
//! use identity::Role;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // tls.crt, tls.key, ca.crt and, optionally, crl.pem: read again every second.
//! let trust = Trust::open(Role::Server, Source::directory("certs/echo"), Reload::default())?;
//! let listener = bind(([127, 0, 0, 1], 50051).into()).await?;
//! let mut incoming = Incoming::new(listener, trust, Limits::default())?;
//! loop {
//!     let stream = incoming.accept().await; // reads, writes, and fails when its peer is revoked
//!     println!("{} connected", stream.peer());
//! }
//! # }
//! ```
//!
//! - [`Trust`]: live credentials from a [`Source`]; each [`Snapshot`] of them is validated whole
//! - [`serve`]: a gRPC server within [`Limits`]; [`connect`], [`connect_any`]: a [`Channel`] to servers of a [`Target`]
//! - [`Incoming`]: connections for a server that is not ours, such as tonic's own or axum's
//! - [`server_config`], [`client_config`], [`client_verifier`], [`server_verifier`], [`peer`], [`authority_lost`]: for a
//!   rustls configuration of one's own
//! - [`Authorities`], [`Refusal`], [`HandshakeError`]: the verifier and its reasons; [`probe`]: a handshake to look at

mod admission;
mod authorities;
mod balance;
mod channel;
mod configurations;
mod connection;
mod counts;
mod crl;
mod crowd;
mod crypto;
mod dial;
mod endpoint;
mod executor;
mod faults;
mod handshake;
mod incoming;
mod invalid;
mod invalid_crl;
mod issuers;
mod key;
mod lease;
mod limits;
mod lists;
mod memo;
mod metrics;
mod names;
mod options;
mod pem;
mod pem_file;
mod port;
mod preface;
mod presented;
mod probe;
mod record;
mod refusal;
mod replay;
mod resolve;
mod response;
mod root;
mod serve;
mod signatures;
mod snapshot;
mod source;
mod target;
mod text;
mod trust;
mod unread;
mod unreadable;
mod verifier;
mod verify;
mod wire;

pub use channel::{Channel, connect, connect_any};
pub use crl::CrlFacts;
pub use crowd::{Crowd, Place};
pub use dial::ConnectError;
pub use handshake::{HandshakeError, Present};
#[cfg(feature = "axum")]
pub use incoming::{ConnectedPeer, OfPeer, WithPeer, with_peer};
pub use incoming::{Incoming, PeerStream};
pub use invalid::InvalidCredentials;
pub use invalid_crl::InvalidCrl;
pub use lease::Lease;
pub use limits::Limits;
pub use metrics::register;
pub use options::ChannelOptions;
pub use pem_file::PemFile;
pub use probe::{presented_chain, probe};
pub use refusal::Refusal;
pub use response::ERROR_DOMAIN;
pub use rustls;
pub use serve::{Drained, Unbound, bind, serve, serve_incoming};
pub use snapshot::Snapshot;
pub use source::Source;
pub use target::{InvalidTarget, Target, Targets};
pub use trust::{Reload, Trust};
pub use unreadable::Unreadable;
pub use verifier::{
    authority_lost, client_config, client_verifier, peer, server_config, server_verifier,
};
pub use verify::{Authorities, ExpiredCrls, ServerIdentity};
