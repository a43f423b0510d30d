//! Mutual TLS for gRPC: credentials on disk become live trust, [`serve`] accepts whom it believes, and
//! [`connect`] gives a channel to the server that proves to be the expected one.
//!
//! This crate knows who a peer is. It never knows a policy or the name of an RPC.

mod admission;
mod authorities;
mod authority;
mod balance;
mod channel;
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
mod invalid;
mod issuers;
mod key;
mod limits;
mod lists;
mod names;
mod pem;
mod pem_file;
mod preface;
mod presented;
mod probe;
mod replay;
mod resolve;
mod response;
mod serve;
mod snapshot;
mod source;
mod target;
mod text;
mod trust;
mod unread;
mod verify;
mod wire;

pub use authority::Authority;
pub use channel::{Channel, ChannelOptions, connect, connect_any};
pub use counts::metrics;
pub use crl::{CrlFacts, InvalidCrl};
pub use crowd::{Crowd, Place};
pub use dial::ConnectError;
pub use handshake::{HandshakeError, Present};
pub use invalid::InvalidCredentials;
pub use limits::Limits;
pub use pem_file::{PemFile, Unreadable};
pub use probe::{presented_chain, probe};
pub use response::ERROR_DOMAIN;
pub use serve::{Drained, Unbound, bind, serve, serve_incoming};
pub use snapshot::Snapshot;
pub use source::Source;
pub use target::{InvalidTarget, Target, Targets};
pub use trust::{Reload, Trust};
pub use verify::{Authorities, ExpiredCrls, Refusal, ServerIdentity};
