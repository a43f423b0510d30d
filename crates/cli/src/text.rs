//! Text for a terminal. What came from a certificate, a file or the command line goes through here.

use std::fmt;
use std::io::{self, Write};

use anyhow::{Result, anyhow};
use base::text::{printable_json, visible};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Shows a text with everything escaped that is not visible, so that it can neither command a terminal, nor
/// begin a line, nor reorder one.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&visible(&self.0.to_string()))
    }
}

/// Writes a result as JSON, for programs. A terminal that shows it finds nothing in it to obey either.
///
/// # Errors
/// When the output is closed.
pub fn write_json(result: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let json = serde_json::to_string_pretty(result)?;
    writeln!(out, "{}", printable_json(&json))
}

/// Reads the text of `file`, whose name is for the error only.
pub(crate) fn parse_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let line = line_at(text, error.span().unwrap_or_default().start);
        let form = base::json::wrapped(text.as_bytes());
        anyhow!("{file}:{line}: {}", form.unwrap_or(error.message()))
    })
}

/// The line of a byte, from 1.
pub(crate) fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|b| *b == b'\n').count()
}

/// One word of a shell, whatever it is made of.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:[]".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        for (raw, shown) in [
            ("CN=\"a\\,b\"", "CN=\"a\\,b\""),
            ("Zürich", "Zürich"),
            ("\x1b[2Ja", "\\u{1b}[2Ja"),
            ("a\nb\r\t\0", "a\\nb\\r\\t\\0"),
            ("\u{202e}abc", "\\u{202e}abc"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(Printable(raw).to_string(), shown);
        }
    }

    #[test]
    fn a_shell_takes_a_word_for_a_word() {
        for (raw, word) in [
            ("/certs/orders:1", "/certs/orders:1"),
            ("x:$(reboot)", "'x:$(reboot)'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(raw), word);
        }
    }

    #[test]
    fn json_is_for_a_terminal_too_and_means_the_same() {
        let raw = "a\"\\\n\x1b\x7f\u{9b}\u{202e}Zürich\u{e0001}";
        let mut written = Vec::new();
        write_json(&[raw], &mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(
            written,
            "[\n  \"a\\\"\\\\\\n\\u001b\\u007f\\u009b\\u202eZürich\\udb40\\udc01\"\n]\n"
        );
        assert_eq!(
            serde_json::from_str::<[String; 1]>(&written).unwrap(),
            [raw]
        );
    }
}
