//! The server side: sockets are admitted, authenticated and served until they end.
//!
//! - who may hold a socket: `limits`, `crowd`, `admission`; what the connections of one port share: `port`
//! - one connection: `connection`, whose calls run in its task by `executor` and are cut by `unread`; `wakeups` wakes it
//! - the entries: `serve` for our server, `incoming` for any other

pub(crate) mod admission;
pub(crate) mod connection;
pub(crate) mod crowd;
pub(crate) mod executor;
pub(crate) mod incoming;
pub(crate) mod limits;
pub(crate) mod port;
pub(crate) mod serve;
pub(crate) mod unread;
pub(crate) mod wakeups;
