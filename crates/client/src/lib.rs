//! The caller of the inventory: a library with a ready client, and a command line that uses it.

mod calls;
pub mod commands;
pub mod events;
pub mod failure;
pub mod items;
mod method;
pub mod output;
pub mod settings;
mod tally;
pub mod worker;

pub use calls::{Client, Levels, connect};
pub use method::Method;
pub use tally::Tally;
