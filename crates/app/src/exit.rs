//! The exit codes of every program here, from sysexits.h where it has a word for it.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// All went well.
pub const OK: ExitCode = ExitCode::SUCCESS;
/// The work was done and the answer is no, or an RPC failed in a way that has no code of its own.
pub const FAILED: u8 = 1;
/// The command line, the environment or a file is not usable: `EX_USAGE`.
pub const USAGE: u8 = 64;
/// The server cannot be reached or is overloaded: `EX_UNAVAILABLE`.
pub const UNAVAILABLE: u8 = 69;
/// We were refused, by certificate or by policy: `EX_NOPERM`.
pub const REFUSED: u8 = 77;

/// Says on standard error why the program ends, in one line, and gives the exit code `code`.
pub fn with(code: u8, error: &dyn Error) -> ExitCode {
    say(error);
    code.into()
}

pub(crate) fn say(error: &dyn Error) {
    // Nobody is left to be told when standard error is closed.
    drop(writeln!(io::stderr(), "error: {}", in_one_line(error)));
}

/// An error and what caused it, as far as its text does not say that already, without a character that a terminal
/// obeys.
pub fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.chars().flat_map(escaped).collect()
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = match c {
        '\\' | '"' | '\'' => (Some(c), None),
        c => (None, Some(c.escape_debug())),
    };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_and_nothing_moves_the_cursor() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read {name}")]
        struct Outer {
            name: &'static str,
            source: io::Error,
        }
        let error = Outer {
            name: "\"a\u{1b}[31m\nb\u{202e}é\"",
            source: io::Error::other("disk on fire"),
        };
        assert_eq!(
            in_one_line(&error),
            "cannot read \"a\\u{1b}[31m\\nb\\u{202e}é\": disk on fire"
        );
        let error = Outer {
            name: "x: disk on fire",
            source: io::Error::other("disk on fire"),
        };
        assert_eq!(in_one_line(&error), "cannot read x: disk on fire");
    }
}
