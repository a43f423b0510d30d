//! Mutual TLS for gRPC: credentials that follow their files, [`serve`] for verified clients, and [`connect`] for a
//! channel to a verified server.
//!
//! This crate authenticates peers. It has no policy, and knows no RPC by name.
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
//! - [`Trust`]: live credentials from a [`Source`]; each [`Snapshot`] of them is validated as a whole
//! - [`serve`]: a gRPC server within [`Limits`]; [`connect`], [`connect_any`]: a [`Channel`] to servers of a [`Target`]
//! - [`Incoming`]: connections for another server, such as tonic's or axum's
//! - [`server_config`], [`client_config`], [`client_verifier`], [`server_verifier`], [`peer`], [`lease_lost`]: for your
//!   own rustls configuration
//! - [`Authorities`], [`Refusal`], [`HandshakeError`]: the verifier, and why it refuses; [`probe`]: a single handshake

// Who gets in is decided here: each match names every case, so that a new one is not decided by accident.
#![warn(clippy::wildcard_enum_match_arm)]

mod client;
pub mod codes;
mod counts;
mod crypto;
pub mod events;
mod h2_error;
mod handshake;
mod handshake_error;
mod lease;
mod metrics;
mod presented;
mod refusal;
mod rustls_verifier;
mod server;
mod socket;
mod text;
mod trust;
mod verifier;

pub use client::channel::{Channel, connect, connect_any};
pub use client::dial::ConnectError;
pub use client::options::ChannelOptions;
pub use client::probe::{presented_chain, probe};
pub use client::response::ERROR_DOMAIN;
pub use client::target::{InvalidTarget, Target, Targets};
pub use handshake::Present;
pub use handshake_error::HandshakeError;
pub use lease::Lease;
pub use metrics::register;
pub use refusal::Refusal;
pub use rustls;
pub use server::crowd::{Crowd, Place};
#[cfg(feature = "axum")]
pub use server::incoming::{ConnectedPeer, WithPeer, with_peer};
pub use server::incoming::{Incoming, PeerStream};
pub use server::limits::Limits;
pub use server::serve::{Drained, Unbound, bind, serve, serve_incoming};
pub use server::unread::{OpenCall, ResponseBody};
pub use trust::crl::CrlFacts;
pub use trust::invalid::InvalidCredentials;
pub use trust::live::{Reload, Trust};
pub use trust::names::is_same_name;
pub use trust::pem_file::PemFile;
pub use trust::revocation::{ExpiredCrls, MissingCrls};
pub use trust::server_identity::ServerIdentity;
pub use trust::snapshot::Snapshot;
pub use trust::source::Source;
pub use trust::verify::Authorities;
pub use trust::workload::{Wanted, WorkloadApi};
pub use verifier::{
    client_config, client_verifier, lease_lost, peer, server_config, server_verifier,
};
