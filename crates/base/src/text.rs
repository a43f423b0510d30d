//! Escaping of untrusted text, so that it cannot move a cursor or hide a character; and timestamps.

use std::error::Error;
use std::fmt::{self, Write};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Text for a terminal or a log: characters that do not print, and backslashes, become Rust escape sequences.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => escaped.push(c),
            c => escaped.extend(c.escape_debug()),
        }
    }
    escaped
}

/// An error with its causes, without repeating a cause that its text includes, and escaped for a terminal.
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
    visible(&text)
}

/// Text with a Rust escape sequence in place of each character that does not print. A backslash is not escaped, so that
/// names look as they are written.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '"' | '\'' => visible.push(c),
            c => visible.extend(c.escape_debug()),
        }
    }
    visible
}

/// One line of JSON in which characters that do not print are escaped.
pub fn json_line(value: &serde_json::Value) -> String {
    printable_json(&value.to_string())
}

/// A JSON text in which characters that do not print are escaped too. serde_json escapes only what JSON requires.
pub fn printable_json(json: &str) -> String {
    let mut printable = String::with_capacity(json.len());
    for c in json.chars() {
        // Of ASCII control characters, DEL and the ends of lines between values are left by now, and nothing outside
        // ASCII is syntax.
        if c.is_ascii_graphic() || c == ' ' || c == '\n' || c.escape_debug().len() == 1 {
            printable.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _infallible: fmt::Result = write!(printable, "\\u{unit:04x}");
            }
        }
    }
    printable
}

/// RFC 3339 in UTC, to the second.
pub fn timestamp(at: impl Into<OffsetDateTime>) -> String {
    let at = at.into().to_offset(UtcOffset::UTC);
    at.truncate_to_second()
        .format(&Rfc3339)
        .unwrap_or_else(|_unformattable| "a time out of range".to_owned())
}

/// The current time for logs: RFC 3339 in UTC, to the microsecond, always of the same length.
pub fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use std::io;

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

    #[test]
    fn text_of_a_peer_cannot_drive_a_terminal() {
        for (text, shown) in [
            ("Hex bolt M8 \"zinc\", 'A'", "Hex bolt M8 \"zinc\", 'A'"),
            ("Schraube Ø5 螺栓", "Schraube Ø5 螺栓"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("one\r\ntwo\0", "one\\r\\ntwo\\0"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("\u{2028}", "\\u{2028}"),
            ("\\u{1b}", "\\\\u{1b}"),
        ] {
            assert_eq!(escape(text), shown, "{text:?}");
        }
    }

    #[test]
    fn json_stays_the_same_value_on_one_printable_line() {
        let text = "\x1b[2J\u{9b}31m\x7f\u{202e}\u{2028}Ø \u{1f600} \u{e0001} \"\\\n";
        let value = serde_json::json!({ "name": text });
        let line = json_line(&value);
        assert!(
            line.chars().all(|c| c == ' ' || !c.is_control()),
            "{line:?}"
        );
        for hidden in ['\u{9b}', '\u{202e}', '\u{2028}', '\u{e0001}'] {
            assert!(!line.contains(hidden), "{line:?}");
        }
        assert!(line.contains("Ø \u{1f600}"), "{line:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&line).unwrap(),
            value
        );
    }
}
