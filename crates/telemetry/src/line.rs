//! Writes an event as one line, in JSON or as text, with every non-printable character of a value escaped.
//! `tracing-subscriber` does not fit: it nests the fields of spans in objects, while ours are flat with the inner one
//! first, and its text format does not escape line ends and changes of writing direction.

use std::error::Error;
use std::fmt::{Debug, Write as _};

use tracing::Level;
use tracing::field::{Field, Visit};

use base::text;

use crate::server_call::ServerCall;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Json,
    Text,
    Colour,
}

/// The fields of an event or a span, in their order.
#[derive(Debug, Default)]
pub(crate) struct LineFields(Vec<(&'static str, FieldValue)>);

#[derive(Debug)]
enum FieldValue {
    Text(String),
    /// A number or a truth value, which both styles write as it is.
    Plain(String),
}

impl LineFields {
    /// The value of a field, as text.
    pub(crate) fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, FieldValue::Text(value) | FieldValue::Plain(value))| value.as_str())
    }

    /// The fields of the call that this thread works for.
    pub(crate) fn of_call(call: &ServerCall) -> Self {
        let mut fields = Vec::with_capacity(6);
        call.fields(|name, value| fields.push((name, FieldValue::Text(value))));
        Self(fields)
    }

    fn put(&mut self, field: &Field, value: FieldValue) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for LineFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, FieldValue::Text(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, FieldValue::Plain(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, FieldValue::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, FieldValue::Plain(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        self.put(
            field,
            if value.is_finite() {
                FieldValue::Plain(text)
            } else {
                FieldValue::Text(text)
            },
        );
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, FieldValue::Text(text::in_one_line(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, FieldValue::Text(format!("{value:?}")));
    }
}

/// A line that is being made.
pub(crate) struct Line {
    style: Style,
    text: String,
    names: Vec<&'static str>,
}

impl Line {
    pub(crate) fn new(style: Style, time: &str, level: Level, target: &str) -> Self {
        let text = match style {
            Style::Json => {
                format!(r#"{{"timestamp":"{time}","level":"{level}","target":"{target}""#)
            }
            Style::Text => format!("{time} {level:>5} {target}:"),
            Style::Colour => format!(
                "\x1b[2m{time}\x1b[0m {} \x1b[2m{target}:\x1b[0m",
                coloured(level)
            ),
        };
        Self {
            style,
            text,
            names: vec!["timestamp", "level", "target"],
        }
    }

    /// The message.
    pub(crate) fn message(&mut self, message: &str) {
        match self.style {
            Style::Json => self.text("message", message),
            Style::Text | Style::Colour => {
                self.text.push(' ');
                escape(&mut self.text, message);
            }
        }
    }

    pub(crate) fn number(&mut self, name: &'static str, number: u64) {
        self.plain(name, &number.to_string());
    }

    /// All fields whose names are not in the line yet; a message comes first.
    pub(crate) fn fields(&mut self, LineFields(fields): &LineFields) {
        for (_, value) in fields.iter().filter(|(name, _)| *name == "message") {
            let (FieldValue::Text(message) | FieldValue::Plain(message)) = value;
            self.message(message);
        }
        for (name, value) in fields {
            if *name == "message" || self.names.contains(name) {
                continue;
            }
            self.names.push(name);
            match value {
                FieldValue::Text(value) => self.text(name, value),
                FieldValue::Plain(value) => self.plain(name, value),
            }
        }
    }

    /// A field of text.
    pub(crate) fn word(&mut self, name: &'static str, value: &str) {
        self.names.push(name);
        self.text(name, value);
    }

    /// The line, with its end.
    pub(crate) fn end(mut self) -> String {
        match self.style {
            Style::Json => self.text.push_str("}\n"),
            Style::Text | Style::Colour => self.text.push('\n'),
        }
        self.text
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let bare = self.style != Style::Json
            && !value.is_empty()
            && !value.contains([' ', '"', '=', '\\']);
        if bare {
            escape(&mut self.text, value);
        } else {
            self.text.push('"');
            escape(&mut self.text, value);
            self.text.push('"');
        }
    }

    fn plain(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push_str(value);
    }

    fn name(&mut self, name: &str) {
        // Writing to a string does not fail.
        match self.style {
            Style::Json => write!(self.text, r#","{name}":"#).ok(),
            Style::Text => write!(self.text, " {name}=").ok(),
            Style::Colour => write!(self.text, " \x1b[2m{name}=\x1b[0m").ok(),
        };
    }
}

fn coloured(level: Level) -> String {
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG | Level::TRACE => 34,
    };
    format!("\x1b[{colour}m{level:>5}\x1b[0m")
}

/// The text as in a JSON string without quotes, with non-printable characters escaped too.
fn escape(line: &mut String, text: &str) {
    let json = text::json_line(&text.into());
    let inner = json.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    line.push_str(inner.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(style: Style, message: &str, value: &str) -> String {
        let mut line = Line::new(style, "now", Level::WARN, "here");
        line.fields(&LineFields(vec![
            ("who", FieldValue::Text(value.to_owned())),
            ("message", FieldValue::Text(message.to_owned())),
        ]));
        line.fields(&LineFields(vec![
            ("who", FieldValue::Text("the outer span".to_owned())),
            ("n", FieldValue::Plain("3".to_owned())),
        ]));
        line.end()
    }

    #[test]
    fn a_line_has_the_fields_of_the_event_and_then_those_of_its_spans() {
        assert_eq!(
            line(Style::Json, "it happened", "she"),
            "{\"timestamp\":\"now\",\"level\":\"WARN\",\"target\":\"here\",\"message\":\"it happened\",\"who\":\"she\",\"n\":3}\n"
        );
        assert_eq!(
            line(Style::Text, "it happened", "she and I"),
            "now  WARN here: it happened who=\"she and I\" n=3\n"
        );
        assert_eq!(
            line(Style::Text, "it \"happened\"", "\""),
            "now  WARN here: it \\\"happened\\\" who=\"\\\"\" n=3\n"
        );
    }

    #[test]
    fn nothing_in_a_value_ends_the_line_or_reaches_the_terminal() {
        let hostile = "x\r\n{\"level\":\"INFO\"}\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{2028}\u{85}\0";
        for style in [Style::Json, Style::Text] {
            let line = line(style, hostile, hostile);
            let (end, rest) = line.as_bytes().split_last().unwrap();
            assert_eq!(*end, b'\n');
            assert!(rest.iter().all(|b| (b' '..=b'~').contains(b)), "{line:?}");
        }
    }
}
