//! The caller of the inventory: a library that gives a ready client, and the command line over it.
//!
//! Never a call to a server that has not proved who it is, never a repeat of a call that is not idempotent.

mod calls;
pub mod commands;
mod connection;
pub mod failure;
pub mod items;
mod observed;
pub mod output;
mod retry;
mod rpc_error;
pub mod settings;
mod tally;
mod text;
pub mod worker;

pub use calls::Levels;
pub use connection::{Client, Connection, connect};
pub use observed::ObservedChannel;
pub use retry::{Attempt, Retry, RetryPolicy};
pub use rpc_error::{Method, RpcError};
pub use tally::Tally;
