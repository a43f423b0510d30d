//! The caller of the inventory: a library that gives a ready client, and the command line over it.

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
