//! The client side: a channel to servers whose identity is verified.
//!
//! - where servers are: `target`, `resolve`
//! - one connection: `options`, `dial` over `wire`, with its `record`; one address: `endpoint`
//! - calls: `replay`, `response`, `balance` and the entry, `channel`
//! - `probe`: a single handshake, for tools

pub(crate) mod balance;
pub(crate) mod channel;
pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod options;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod resolve;
pub(crate) mod response;
pub(crate) mod target;
pub(crate) mod wire;
