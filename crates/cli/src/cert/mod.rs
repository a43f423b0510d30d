//! `countersign cert`: shows and verifies certificates.

mod platform;
mod show;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use mtls::InvalidCredentials;

pub use platform::Platform;
pub(crate) use show::chain;
pub use show::describe;
pub use verify::{ExpectedName, Purpose, Verification, verification};

use crate::pki::certificate::Malformed;

/// Shows and verifies certificates.
#[derive(Debug, Args)]
pub struct Cert {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Show),
    Verify(verify::Verify),
}

/// Does what the command line says.
///
/// # Errors
/// When a file cannot be read or used.
pub fn run(cert: Cert, out: &mut dyn Write) -> Result<ExitCode, CertError> {
    match cert.command {
        Command::Show(show) => show::run(show, out),
        Command::Verify(verify) => verify::run(verify, out),
    }
}

/// Why there is nothing to show, or nothing to judge by.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate in it is malformed.
    #[error("certificate {position} of {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
        /// What is wrong.
        source: Malformed,
    },
    /// A file is not PEM, or not of the kind that it must be.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// The output is closed.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
}
