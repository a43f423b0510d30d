//! The `countersign` tool as a library: what its commands do, without a command line around it.
//!
//! Certificates are made here for development and tests. Nothing here is linked into a server or a client.
//!
//! Errors are [`anyhow::Error`]: text for people, with its causes. A command that fails prints it in one line.

mod catalogue;
pub mod cert;
pub mod codes;
mod command;
mod demo;
mod doctor;
mod facts;
mod new;
pub mod pki;
pub mod policy;
pub mod rights;
pub mod text;

pub use command::main;

/// How a command writes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people. It may change.
    #[default]
    Text,
    /// For programs. Fields are added, never changed.
    Json,
}
