//! Mutual TLS for gRPC: credentials on disk become live trust, [`serve`] accepts whom it believes, and
//! [`connect`] gives a channel to the server that proves to be the expected one.
//!
//! This crate knows who a peer is. It never knows a policy or the name of an RPC.

mod admission;
mod authority;
mod channel;
mod connection;
mod crl;
mod crypto;
mod dial;
mod endpoint;
mod first_read;
mod handshake;
mod limits;
mod probe;
mod replay;
mod response;
mod serve;
mod snapshot;
mod source;
mod text;
mod throttle;
mod trust;
mod verify;

pub use authority::Authority;
pub use channel::{Channel, ChannelOptions, InvalidTarget, Target, connect};
pub use crl::{CrlFacts, InvalidCrl};
pub use dial::ConnectError;
pub use handshake::{HandshakeError, Present};
pub use limits::Limits;
pub use probe::probe;
pub use response::ERROR_DOMAIN;
pub use serve::{Drained, Unbound, bind, serve};
pub use snapshot::{InvalidCredentials, Snapshot};
pub use source::{Source, Unreadable};
pub use trust::{Reload, Trust};
pub use verify::{Authorities, ExpiredCrls, Refusal, ServerIdentity};
