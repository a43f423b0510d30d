//! A client: a channel for generated clients, made from settings, with deadlines, retries, and errors that say what to
//! do.

mod channel;
mod connection;
mod next_step;
mod observed;
mod retry;
mod rpc_error;
mod settings;

pub use channel::ClientChannel;
pub use connection::{Client, Connection, SetupError, connect};
pub use retry::{Attempt, Retry, RetryPolicy};
pub use rpc_error::RpcError;
pub use settings::{ConnectionSettings, NoTraces};
