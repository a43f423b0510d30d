//! The caller of the inventory: a library that gives a ready client, and the command line over it.
//!
//! Never a call to a server that has not proved who it is, never a repeat of a call that is not idempotent.

mod connection;
mod retry;
pub mod settings;

pub use connection::{Client, Connection, connect};
pub use retry::{Attempt, Retry, RetryPolicy};
