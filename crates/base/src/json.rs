//! Recognizes what a text is that is not JSON, or not what another reader expects, for a better error message.

/// Names a common mistake in a text that should be JSON, and how to fix it. Ask only about a text that a strict parser
/// refuses, or that is one JSON string.
pub fn instead(text: &[u8]) -> Option<&'static str> {
    if let Some(form) = marked(text) {
        return Some(form);
    }
    let body = text.trim_ascii();
    if let [b'"', .., b'"'] = body {
        return Some(
            "it is JSON inside a JSON string: decode it once (`jq -r .`), or remove the quotes around it",
        );
    }
    if let Some(form) = wrapped(text) {
        return Some(form);
    }
    if body.starts_with(br#"{\"#) {
        return Some(r#"its quotes are escaped: write " in place of \""#);
    }
    if !matches!(body.first(), Some(b'{' | b'[')) && is_yaml(body) {
        return Some("it is YAML: convert it to JSON (`yq -o json`)");
    }
    outside_of_strings(body)
}

/// A text with a byte order mark before it, which not every parser of UTF-8 takes.
pub fn marked(text: &[u8]) -> Option<&'static str> {
    text.starts_with(b"\xef\xbb\xbf")
        .then_some("it begins with a byte order mark: save it as UTF-8 without one")
}

/// What any text may be in the place of itself: in another encoding, in quotes, in base64, or a page that says why it
/// could not be fetched.
pub fn wrapped(text: &[u8]) -> Option<&'static str> {
    /// Shorter texts are words.
    const SHORTEST: usize = 24;
    let utf16 = text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff");
    if utf16 || text.iter().take(2).any(|byte| *byte == 0) {
        return Some("it is UTF-16: save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)");
    }
    let body = text.trim_ascii();
    if let [b'"', .., b'"'] | [b'\'', .., b'\''] = body {
        return Some("there are quotes around it: remove them");
    }
    let begins = |with: &[u8]| {
        body.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if begins(b"<!doctype") || begins(b"<html") || begins(b"<?xml") {
        return Some("it is a page of HTML or XML: fetch the file itself");
    }
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
    if body.len() >= SHORTEST && body.iter().all(base64) {
        return Some("it is in base64, as in a Kubernetes Secret: decode it with `base64 -d`");
    }
    None
}

/// `key: value` or a list item at the beginning of a line.
fn is_yaml(body: &[u8]) -> bool {
    body.starts_with(b"---")
        || body.split(|byte| *byte == b'\n').any(|line| {
            let line = line.trim_ascii();
            let key = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-\"' ".contains(byte);
            line.starts_with(b"- ")
                || (key.len() < line.len() && !key.is_empty() && key.iter().all(is_word))
        })
}

fn outside_of_strings(body: &[u8]) -> Option<&'static str> {
    let mut rest = body;
    let mut comma = false;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => {
                rest = after_string(rest);
                comma = false;
            }
            b'\'' => return Some("it has single quotes: JSON has only double quotes"),
            b'#' => return Some("it has a comment, which JSON does not allow: remove it"),
            b'/' if matches!(after.first(), Some(b'/' | b'*')) => {
                return Some("it has a comment, which JSON does not allow: remove it");
            }
            b'}' | b']' if comma => {
                return Some(
                    "there is a comma after the last value of a list or object: remove it",
                );
            }
            b',' => comma = true,
            other => comma = comma && other.is_ascii_whitespace(),
        }
    }
    None
}

fn after_string(text: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => at += 1,
            _ => {}
        }
    }
    text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_bring_in_place_of_json_is_named() {
        let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&b"\xff\xfe"[..], &utf16].concat();
        for (text, named) in [
            (&b"\xef\xbb\xbf{}"[..], "byte order mark"),
            (&utf16, "UTF-16"),
            (&marked, "UTF-16"),
            (br#""{\"name\": \"a\"}""#, "JSON inside a JSON string"),
            (br#"'{"name": "a"}'"#, "quotes around it"),
            (br#"{\"name\": \"a\"}"#, "its quotes are escaped"),
            (b"name: a\nallow_rules:\n- name: b\n", "YAML"),
            (b"---\nname: a\n", "YAML"),
            (b"eyJuYW1lIjogImEiLCAiYWxsb3dfcnVsZXMiOiBbXX0=\n", "base64"),
            (b"\n<!DOCTYPE html>\n<html></html>", "HTML"),
            (b"<?xml version='1.0'?>", "HTML"),
            (b"# mine\nname: a\n", "YAML"),
            (b"{'name': 'a'}", "single quotes"),
            (b"{ // mine\n}", "comment"),
            (b"{ /* mine */ }", "comment"),
            (b"{ # mine\n}", "comment"),
            (b"// mine\n{}", "comment"),
            (br#"{"a": [1, ]}"#, "comma after the last"),
            (b"{\"a\": \"x\",\n}", "comma after the last"),
        ] {
            let said = instead(text).unwrap_or_default();
            let shown = String::from_utf8_lossy(text);
            assert!(said.contains(named), "{shown}: {said}");
        }
        for text in [
            &br#"{"a": "// # ' ,]", "b": "\\"}"#[..],
            b"{",
            b"",
            b"nonsense",
            b"[1, 2]",
        ] {
            assert_eq!(instead(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
