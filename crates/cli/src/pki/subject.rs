//! Subjects written as RFC 4514 strings, most specific part first: `CN=mainframe,OU=batch,O=Acme,C=US`.
//!
//! Strict: what RFC 4514 does not allow is refused, and nothing is repaired.

use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use x509_parser::asn1_rs::{Any, Oid, Tag, ToDer as _};
use x509_parser::prelude::FromDer as _;

use super::encoding;

/// The subject of a certificate: the DER of a name that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Vec<u8>);

impl Subject {
    /// The name of a certificate; none when it is empty.
    pub(super) fn from_der(name: &[u8]) -> Option<Self> {
        const EMPTY_SEQUENCE: [u8; 2] = [0x30, 0];
        (name != EMPTY_SEQUENCE).then(|| Self(name.to_vec()))
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.0
    }

    /// As a policy compares it. In a part of several attributes, these have the order of their encoding.
    ///
    /// # Errors
    /// When it has a control character or too many attributes.
    pub fn text(&self) -> Result<String, identity::InvalidName> {
        identity::distinguished_name(&self.0)
    }
}

const COMMON_NAME: &str = "2.5.4.3";

impl FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (mut parts, mut common_names) = (Vec::new(), 0);
        for part in split(text, ',') {
            let mut attributes: Vec<(Oid<'static>, Vec<u8>)> = Vec::new();
            for attribute in split(part, '+') {
                let (name, text) = attribute.split_once('=').with_context(|| {
                    format!("{attribute:?} is not of the form TYPE=value, as in CN=mainframe,O=Acme,C=US")
                })?;
                let (oid, value) = type_and_value(name, text)?;
                ensure!(
                    attributes.iter().all(|(earlier, _)| *earlier != oid),
                    "{name} is given twice in a part of the name: put a comma between the two, not a +"
                );
                common_names += usize::from(oid.to_id_string() == COMMON_NAME);
                ensure!(
                    common_names <= 1,
                    "a subject has one CN at most: software disagrees on which of two counts"
                );
                let encoded = encoding::element(Tag::Sequence, &[oid.to_der_vec()?, value])?;
                attributes.push((oid, encoded));
            }
            // DER sorts the elements of a set (X.690 §11.6).
            let (_, mut set): (Vec<_>, Vec<_>) = attributes.into_iter().unzip();
            set.sort();
            parts.push(encoding::element(Tag::Set, &set)?);
        }
        // Most significant first, the reverse of the text (RFC 4514 §2.1).
        parts.reverse();
        Ok(Self(encoding::element(Tag::Sequence, &parts)?))
    }
}

/// What stands between the separators that no backslash escapes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    text.split(move |c| {
        let splits = c == separator && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        splits
    })
}

/// The type of an attribute, and its value in DER.
fn type_and_value(name: &str, text: &str) -> Result<(Oid<'static>, Vec<u8>)> {
    let (oid, attribute) = attribute_type(name)?;
    let value = match (text.strip_prefix('#'), attribute) {
        (None, Some(attribute)) => attribute.encoded(name, &unescaped(name, text)?)?,
        (Some(_), Some(_)) => bail!(bare('#', name)),
        (digits, None) => digits.and_then(one_element).with_context(|| {
            format!("the value of {name} must be its DER in hexadecimal after a #, as in 1.3.6.1.4.1.1466.0=#04024869 (RFC 4514 §2.4)")
        })?,
    };
    Ok((oid, value))
}

/// The element of DER that hexadecimal digits stand for.
fn one_element(digits: &str) -> Option<Vec<u8>> {
    let octets = encoding::hexadecimal(digits)?;
    matches!(Any::from_der(&octets), Ok(([], _))).then_some(octets)
}

fn bare(found: char, name: &str) -> anyhow::Error {
    anyhow!("{found:?} in {name} must be escaped with a backslash")
}

/// A value without its escapes (RFC 4514 §2.4): a backslash, and then a special character or an octet as two hexadecimal
/// digits.
fn unescaped(name: &str, text: &str) -> Result<String> {
    ensure!(!text.starts_with(' '), bare(' ', name));
    let (mut octets, mut ends_in_bare_space) = (Vec::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        ends_in_bare_space = c == ' ';
        match c {
            '\\' => {
                let after = chars.as_str();
                let (octet, length) = escaped(after).with_context(|| {
                    format!("a backslash in {name} must stand before a special character or two hexadecimal digits")
                })?;
                octets.push(octet);
                chars = after.get(length..).unwrap_or_default().chars();
            }
            '"' | ';' | '<' | '>' | '\0' => bail!(bare(c, name)),
            c => octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    ensure!(!ends_in_bare_space, bare(' ', name));
    String::from_utf8(octets).with_context(|| format!("the value of {name} is not UTF-8"))
}

/// The octet that is escaped, and the number of characters that stand for it.
fn escaped(text: &str) -> Option<(u8, usize)> {
    match text.as_bytes() {
        [special, ..] if b"\"+,;<> #=\\".contains(special) => Some((*special, 1)),
        _ => Some((*encoding::hexadecimal(text.get(..2)?)?.first()?, 2)),
    }
}

/// An attribute type by its short name (RFC 4514 §3) or its object identifier, with its rules when they are known here.
fn attribute_type(name: &str) -> Result<(Oid<'static>, Option<&'static Attribute>)> {
    let attribute = ATTRIBUTES
        .iter()
        .find(|it| it.name.eq_ignore_ascii_case(name) || it.oid == name);
    let dotted = attribute.map_or(name, |attribute| attribute.oid);
    // There is one way to write an identifier, and the first of its numbers is 0, 1 or 2 (X.660 §7).
    let is_known_root = matches!(dotted.as_bytes(), [b'0'..=b'2', b'.', ..]);
    match dotted.parse::<Oid<'static>>() {
        Ok(oid) if is_known_root && oid.to_id_string() == dotted => Ok((oid, attribute)),
        Ok(_) | Err(_) => bail!(
            "{name:?} is no attribute type: use CN, L, ST, O, OU, C, STREET, DC or UID, or an object identifier such as \
             2.5.4.5 with a value in hexadecimal; no space stands around it"
        ),
    }
}

/// An attribute type with its short name (RFC 4514 §3) and its rules (RFC 5280 appendix A.1).
struct Attribute {
    name: &'static str,
    oid: &'static str,
    syntax: Syntax,
    /// In characters.
    longest: usize,
}

const ATTRIBUTES: [Attribute; 9] = [
    Attribute::new("CN", COMMON_NAME, Syntax::Text, 64),
    Attribute::new("L", "2.5.4.7", Syntax::Text, 128),
    Attribute::new("ST", "2.5.4.8", Syntax::Text, 128),
    Attribute::new("O", "2.5.4.10", Syntax::Text, 64),
    Attribute::new("OU", "2.5.4.11", Syntax::Text, 64),
    Attribute::new("C", "2.5.4.6", Syntax::Country, 2),
    Attribute::new("STREET", "2.5.4.9", Syntax::Text, 128),
    Attribute::new("DC", "0.9.2342.19200300.100.1.25", Syntax::Ascii, 63),
    Attribute::new("UID", "0.9.2342.19200300.100.1.1", Syntax::Text, 256),
];

impl Attribute {
    const fn new(name: &'static str, oid: &'static str, syntax: Syntax, longest: usize) -> Self {
        Self {
            name,
            oid,
            syntax,
            longest,
        }
    }

    /// The value as the string type that RFC 5280 wants.
    fn encoded(&self, name: &str, value: &str) -> Result<Vec<u8>> {
        let (tag, wanted, right) = match self.syntax {
            Syntax::Text => (Tag::Utf8String, "text", true),
            Syntax::Ascii => (Tag::Ia5String, "ASCII", value.is_ascii()),
            Syntax::Country => {
                let right = value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase());
                (Tag::PrintableString, "two capital letters", right)
            }
        };
        let longest = self.longest;
        ensure!(!value.is_empty(), "{name} has no value");
        ensure!(
            value.chars().count() <= longest,
            "{name} is longer than {longest} characters"
        );
        ensure!(right, "{name} must be {wanted}");
        encoding::element(tag, &[value])
    }
}

#[derive(Clone, Copy)]
enum Syntax {
    Text,
    Ascii,
    Country,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with the text that `openssl x509 -nameopt RFC2253` prints for it.
    #[test]
    fn the_examples_of_rfc_4514_and_others_are_encoded_as_written() {
        for (text, printed) in [
            (
                "UID=jsmith,DC=example,DC=net",
                "UID=jsmith,DC=example,DC=net",
            ),
            (
                "OU=Sales+CN=J.  Smith,DC=example,DC=net",
                "CN=J.  Smith+OU=Sales,DC=example,DC=net",
            ),
            (
                r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#,
                r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#,
            ),
            (
                "1.3.6.1.4.1.1466.0=#04024869",
                "1.3.6.1.4.1.1466.0=#04024869",
            ),
            (r"CN=Lu\C4\8Di\C4\87", r"CN=Lu\C4\8Di\C4\87"),
            ("CN=Lučić", r"CN=Lu\C4\8Di\C4\87"),
            (
                "CN=mainframe,OU=batch,O=Acme,C=US",
                "CN=mainframe,OU=batch,O=Acme,C=US",
            ),
            ("cn=a,oU=b", "CN=a,OU=b"),
            ("OU=a,OU=b,O=c", "OU=a,OU=b,O=c"),
            ("CN=b+OU=a", "OU=a+CN=b"),
            ("OU=a+CN=b", "OU=a+CN=b"),
            ("UID=1+CN=a+OU=b,C=US", "UID=1+OU=b+CN=a,C=US"),
            ("2.5.4.3=a", "CN=a"),
            ("2.5.4.5=#130131+O=a", "O=a+serialNumber=1"),
            (r"CN=\#1 \+ a=b\ ", r"CN=\#1 \+ a=b\ "),
            ("CN=a#b", "CN=a#b"),
            (r"CN=Z\c3\bcrich\2c", r"CN=Z\C3\BCrich\,"),
            ("CN=a=b", "CN=a=b"),
        ] {
            let subject: Subject = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(subject.text().unwrap(), printed, "{text}");
            let again: Subject = printed.parse().unwrap_or(subject.clone());
            assert_eq!(again.text().unwrap(), printed, "{text}");
        }
        let control: Subject = r"CN=Before\0dAfter,DC=example,DC=net".parse().unwrap();
        let refused = control.text().unwrap_err().to_string();
        assert_eq!(refused, "the value of CN holds a control character");
    }

    #[test]
    fn what_rfc_4514_does_not_allow_is_refused() {
        for (text, why) in [
            ("", "not of the form"),
            ("mainframe", "not of the form"),
            ("CN=a,", "not of the form"),
            ("CN=a+", "not of the form"),
            ("CN=a, O=b", "no attribute type"),
            ("CN =a", "no attribute type"),
            ("EMAIL=a", "no attribute type"),
            ("2.5.04.3=a", "no attribute type"),
            ("2.5.4.=a", "no attribute type"),
            ("3.5.4.3=#0500", "no attribute type"),
            ("/CN=a/O=b", "no attribute type"),
            ("2.5.4.5=a", "must be its DER"),
            ("2.5.4.5=#", "must be its DER"),
            ("2.5.4.5=#1", "must be its DER"),
            ("2.5.4.5=#13", "must be its DER"),
            ("2.5.4.5=#130131ff", "must be its DER"),
            ("2.5.4.5=#130131 ,CN=a", "must be its DER"),
            ("CN=", "has no value"),
            ("CN=+O=b", "has no value"),
            ("CN=a+CN=b", "twice in a part"),
            ("CN=a,CN=b", "one CN"),
            ("CN=a,O=b,2.5.4.3=c", "one CN"),
            ("CN=a+2.5.4.3=b", "twice in a part"),
            ("CN=a;O=b", "';' in CN"),
            ("CN=\"a,b\"", "'\"' in CN"),
            ("CN= a", "' ' in CN"),
            ("CN=a ", "' ' in CN"),
            ("CN=a ,O=b", "' ' in CN"),
            ("CN=a +O=b", "' ' in CN"),
            ("CN=a\\\\ ", "' ' in CN"),
            ("CN=#0401", "'#' in CN"),
            ("CN=a\\", "a backslash in CN"),
            ("CN=a\\x", "a backslash in CN"),
            ("CN=a\\zz", "a backslash in CN"),
            ("CN=\\ff", "not UTF-8"),
            ("C=USA", "longer than 2"),
            ("C=us", "two capital letters"),
            ("DC=zürich", "must be ASCII"),
            (&format!("CN={}", "a".repeat(65)), "longer than 64"),
        ] {
            let error = text.parse::<Subject>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
