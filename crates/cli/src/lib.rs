//! The `countersign` tool as a library: its commands as functions, without the command line.
//!
//! It makes certificates for development and tests. No server or client links this crate.
//!
//! Errors are [`anyhow::Error`]: text for people, with its causes. The tool prints the error of a failed command in
//! one line.

use std::io::{self, Write};

use serde::Serialize;

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

impl OutputFormat {
    /// Writes a result as JSON, or as the text that `text` writes.
    fn write(
        self,
        result: &impl Serialize,
        out: &mut dyn Write,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Text => text(out),
            Self::Json => text::write_json(result, out),
        }
    }
}
