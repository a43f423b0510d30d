//! `countersign cert`: shows and verifies certificates.

mod platform;
mod show;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

pub use platform::Platform;
pub(crate) use show::chain;
pub use show::describe;
pub use verify::{Verification, expected_name, judge};

/// Show and verify certificates.
#[derive(Debug, Args)]
pub(crate) struct Cert {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Show),
    Verify(verify::Verify),
}

/// Does what the command line says.
pub(crate) fn run(cert: Cert, out: &mut dyn Write) -> Result<ExitCode> {
    match cert.command {
        Command::Show(show) => show::run(&show, out),
        Command::Verify(verify) => verify::run(&verify, out),
    }
}
