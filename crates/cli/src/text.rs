//! Text for a terminal. Whatever came from a certificate, a file or the command line goes through here.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Shows a text with everything escaped that is not visible, so that it can neither command a terminal, nor
/// begin a line, nor reorder one.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = self
            .0
            .to_string()
            .chars()
            .fold(String::new(), |mut escaped, c| {
                match c {
                    '\\' | '"' | '\'' => escaped.push(c),
                    c => escaped.extend(c.escape_debug()),
                }
                escaped
            });
        f.pad(&escaped)
    }
}

/// A point in time by RFC 3339, in UTC and whole seconds.
pub fn timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let seconds = at.replace_nanosecond(0).unwrap_or(at);
    seconds
        .format(&Rfc3339)
        .unwrap_or_else(|_unformattable| seconds.to_string())
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
}
