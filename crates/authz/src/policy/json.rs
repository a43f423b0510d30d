//! JSON values with what `serde_json::Value` drops: the line of each value, and repeated keys.
//!
//! The grammar is `serde_json`'s (its depth limit too); nothing here interprets a policy.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A value and the line it begins on, counted from 1.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: JsonValue,
}

#[derive(Clone, Debug)]
pub(crate) enum JsonValue {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Node>),
    /// In the order of the text, repeated keys and all.
    Object(Vec<(String, Node)>),
}

impl JsonValue {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl From<&Node> for serde_json::Value {
    fn from(node: &Node) -> Self {
        match &node.value {
            JsonValue::Null => Self::Null,
            JsonValue::Bool(value) => Self::Bool(*value),
            JsonValue::Number(value) => Self::Number(value.clone()),
            JsonValue::String(value) => Self::String(value.clone()),
            JsonValue::Array(items) => items.iter().map(Self::from).collect(),
            JsonValue::Object(fields) => fields
                .iter()
                .map(|(key, field)| (key.clone(), Self::from(field)))
                .collect(),
        }
    }
}

/// Reads the one JSON value that `text` has to be.
pub(crate) fn parse(text: &[u8]) -> Result<Node, serde_json::Error> {
    let lines = value_lines(text);
    let next = Cell::new(0);
    let mut json = serde_json::Deserializer::from_slice(text);
    let node = Seed {
        lines: &lines,
        next: &next,
    }
    .deserialize(&mut json)?;
    json.end()?;
    Ok(node)
}

/// The line of every value of a valid JSON text, in the order in which they begin.
///
/// For an invalid text the result is meaningless.
fn value_lines(text: &[u8]) -> Vec<u32> {
    let mut lines = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'\n' => line += 1,
            b'{' | b'[' => lines.push(line),
            b'"' => {
                at = string_end(text, at);
                let key = text[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if !key {
                    lines.push(line);
                }
            }
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                while text
                    .get(at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
                {
                    at += 1;
                }
                debug_assert!(start < at);
                lines.push(line);
            }
            _ => {}
        }
    }
    lines
}

/// The end of the string whose content begins at `at`, past its closing quote.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => at += 1,
            _ => {}
        }
    }
    at.min(text.len())
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    lines: &'a [u32],
    next: &'a Cell<usize>,
}

impl Seed<'_> {
    fn line(self) -> u32 {
        let at = self.next.replace(self.next.get() + 1);
        self.lines.get(at).copied().unwrap_or(0)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Node, D::Error> {
        let line = self.line();
        json.deserialize_any(self).map(|value| Node { line, value })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = JsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonValue, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonValue, E> {
        Ok(JsonValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonValue, E> {
        Ok(JsonValue::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<JsonValue, E> {
        Number::from_f64(value)
            .map(JsonValue::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonValue, E> {
        Ok(JsonValue::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonValue, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(JsonValue::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<JsonValue, A::Error> {
        let mut object = Vec::new();
        while let Some(key) = fields.next_key()? {
            object.push((key, fields.next_value_seed(self)?));
        }
        Ok(JsonValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(node: &Node, into: &mut Vec<u32>) {
        into.push(node.line);
        match &node.value {
            JsonValue::Array(items) => items.iter().for_each(|item| lines(item, into)),
            JsonValue::Object(fields) => fields.iter().for_each(|(_, field)| lines(field, into)),
            JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::String(_) => {}
        }
    }

    #[test]
    fn each_value_knows_its_line() {
        let text = "{\n\"a\\\"\" \n : [1,\n-2.5e+3 , \"x:\\\\\"\n, true], \"b\":\n{\"c\": null,\n \"d\" : \"\\n\" }\n}";
        let mut found = Vec::new();
        lines(&parse(text.as_bytes()).unwrap(), &mut found);
        assert_eq!(found, [1, 3, 3, 4, 4, 5, 6, 6, 7]);
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            " ",
            "{",
            "{} {}",
            "{},",
            "// c\n{}",
            "{\"a\":1,}",
            "\"\\",
            "nul",
            "\"a\":",
            &deep,
            "\u{feff}{}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:.20}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }
}
