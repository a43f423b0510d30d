//! The exit codes of every program here, from sysexits.h where it defines one.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Success.
pub const OK: ExitCode = ExitCode::SUCCESS;
/// The result is negative, or an RPC failed with an error that has no exit code of its own.
pub const FAILED: u8 = 1;
/// The command line, the environment or a file is not usable: `EX_USAGE`.
pub const USAGE: u8 = 64;
/// The server cannot be reached or is overloaded: `EX_UNAVAILABLE`.
pub const UNAVAILABLE: u8 = 69;
/// We were refused, by certificate or by policy: `EX_NOPERM`.
pub const REFUSED: u8 = 77;

/// Writes to standard error why the program ends, in one line, and returns the exit code `code`.
pub fn with(code: u8, error: &dyn Error) -> ExitCode {
    say(error);
    code.into()
}

/// The same, and in the same line what to do about it.
pub fn with_next_step(code: u8, error: &dyn Error, next: Option<String>) -> ExitCode {
    match next {
        Some(next) => {
            let error = base::text::in_one_line(error);
            // As in `say`.
            drop(writeln!(io::stderr(), "error: {error}; {next}"));
        }
        None => say(error),
    }
    code.into()
}

pub(crate) fn say(error: &dyn Error) {
    // When standard error is closed, there is nowhere left to report it.
    drop(writeln!(
        io::stderr(),
        "error: {}",
        base::text::in_one_line(error)
    ));
}
