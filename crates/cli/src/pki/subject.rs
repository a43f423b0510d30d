//! Subjects written as RFC 4514 strings, most specific part first: `CN=mainframe,OU=batch,O=Acme,C=US`.
//!
//! Strict: what RFC 4514 does not allow, or what two readers could take for two names, is refused, and
//! nothing is repaired.

use std::str::FromStr;

use rcgen::{DistinguishedName, DnType, DnValue};

/// The subject of a certificate. Each attribute stands alone and once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Vec<(&'static Attribute, String)>);

impl Subject {
    /// The values, each after the short name of its attribute, most specific first.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0
            .iter()
            .map(|(attribute, value)| (attribute.name, value.as_str()))
    }

    /// Most significant first, the reverse of the text (RFC 4514 §2.1).
    pub(super) fn to_rcgen(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        for (attribute, value) in self.0.iter().rev() {
            name.push(
                DnType::from_oid(attribute.oid),
                attribute.syntax.encode(value),
            );
        }
        name
    }
}

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let mut attributes = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = rest
                .split_once('=')
                .ok_or_else(|| InvalidSubject::NoEquals(rest.to_owned()))?;
            let attribute = Attribute::named(name)?;
            let (value, after) = read_value(attribute, after)?;
            attribute.check(&value)?;
            if attributes.iter().any(|(earlier, _)| *earlier == attribute) {
                return Err(InvalidSubject::Repeated(attribute.name));
            }
            attributes.push((attribute, value));
            match after {
                None => return Ok(Self(attributes)),
                Some(after) => rest = after,
            }
        }
    }
}

/// Reads up to the comma that ends the value. Gives what follows the comma.
fn read_value<'a>(
    attribute: &Attribute,
    text: &'a str,
) -> Result<(String, Option<&'a str>), InvalidSubject> {
    let unescaped = |found| InvalidSubject::Unescaped {
        attribute: attribute.name,
        found,
    };
    let mut value = Vec::new();
    let mut ends_in_bare_space = false;
    let mut after = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let rest = &text[at + c.len_utf8()..];
        if c == ',' {
            after = Some(rest);
            break;
        }
        ends_in_bare_space = c == ' ';
        match c {
            '\\' => {
                let (octet, length) =
                    unescape(rest).ok_or(InvalidSubject::Escape(attribute.name))?;
                value.push(octet);
                chars.by_ref().take(length).for_each(drop);
            }
            ' ' | '#' if at == 0 => return Err(unescaped(c)),
            '+' => return Err(InvalidSubject::MultiValued(attribute.name)),
            '"' | ';' | '<' | '>' | '\0' => return Err(unescaped(c)),
            c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if ends_in_bare_space {
        return Err(unescaped(' '));
    }
    let value = String::from_utf8(value).map_err(|source| InvalidSubject::Utf8 {
        attribute: attribute.name,
        source,
    })?;
    Ok((value, after))
}

/// What follows a backslash: one special character, or an octet as two hexadecimal digits (RFC 4514 §2.4).
/// Gives the octet and the number of characters that stood for it.
fn unescape(after: &str) -> Option<(u8, usize)> {
    match after.as_bytes() {
        [
            special @ (b'"' | b'+' | b',' | b';' | b'<' | b'>' | b' ' | b'#' | b'=' | b'\\'),
            ..,
        ] => Some((*special, 1)),
        [high, low, ..] => {
            let digit = |octet: &u8| char::from(*octet).to_digit(16);
            u8::try_from(digit(high)? << 4 | digit(low)?)
                .ok()
                .map(|octet| (octet, 2))
        }
        _ => None,
    }
}

/// An attribute type with its short name (RFC 4514 §3) and its rules (RFC 5280 appendix A.1).
#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    name: &'static str,
    oid: &'static [u64],
    syntax: Syntax,
    /// In characters.
    longest: usize,
}

static ATTRIBUTES: [Attribute; 9] = [
    Attribute::text("CN", &[2, 5, 4, 3], 64),
    Attribute::text("L", &[2, 5, 4, 7], 128),
    Attribute::text("ST", &[2, 5, 4, 8], 128),
    Attribute::text("O", &[2, 5, 4, 10], 64),
    Attribute::text("OU", &[2, 5, 4, 11], 64),
    Attribute {
        name: "C",
        oid: &[2, 5, 4, 6],
        syntax: Syntax::Country,
        longest: 2,
    },
    Attribute::text("STREET", &[2, 5, 4, 9], 128),
    Attribute {
        name: "DC",
        oid: &[0, 9, 2342, 19_200_300, 100, 1, 25],
        syntax: Syntax::Ascii,
        longest: 63,
    },
    Attribute::text("UID", &[0, 9, 2342, 19_200_300, 100, 1, 1], 256),
];

impl Attribute {
    const fn text(name: &'static str, oid: &'static [u64], longest: usize) -> Self {
        Self {
            name,
            oid,
            syntax: Syntax::Text,
            longest,
        }
    }

    fn named(name: &str) -> Result<&'static Self, InvalidSubject> {
        ATTRIBUTES
            .iter()
            .find(|attribute| attribute.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| InvalidSubject::Unknown(name.to_owned()))
    }

    fn check(&self, value: &str) -> Result<(), InvalidSubject> {
        let attribute = self.name;
        let right = match self.syntax {
            Syntax::Text => true,
            Syntax::Ascii => value.is_ascii(),
            Syntax::Country => value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase()),
        };
        match value.chars().count() {
            0 => Err(InvalidSubject::Empty(attribute)),
            length if length > self.longest => Err(InvalidSubject::TooLong {
                attribute,
                longest: self.longest,
            }),
            _ if !right => Err(InvalidSubject::Syntax {
                attribute,
                wanted: self.syntax.wanted(),
            }),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Text,
    Ascii,
    Country,
}

impl Syntax {
    /// The string type that RFC 5280 wants. The check has made sure that the value fits it.
    fn encode(self, value: &str) -> DnValue {
        let text = || DnValue::Utf8String(value.to_owned());
        match self {
            Self::Text => text(),
            Self::Ascii => value.try_into().map_or_else(|_| text(), DnValue::Ia5String),
            Self::Country => value
                .try_into()
                .map_or_else(|_| text(), DnValue::PrintableString),
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ascii => "ASCII",
            Self::Country => "two capital letters",
        }
    }
}

/// Why a text is no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// Something that is not `TYPE=value`.
    #[error("{0:?} is not of the form TYPE=value, as in CN=mainframe,O=Acme,C=US")]
    NoEquals(String),
    /// An attribute type without a short name in RFC 4514 §3.
    #[error(
        "{0:?} is no attribute type; known are CN, L, ST, O, OU, C, STREET, DC and UID, without spaces around"
    )]
    Unknown(String),
    /// A type twice: readers disagree on which of the two counts.
    #[error("{0} is given twice; each attribute type may stand once")]
    Repeated(&'static str),
    /// No value.
    #[error("{0} has no value")]
    Empty(&'static str),
    /// More characters than RFC 5280 appendix A.1 allows.
    #[error("{attribute} is longer than {longest} characters")]
    TooLong {
        /// The short name of the type.
        attribute: &'static str,
        /// In characters.
        longest: usize,
    },
    /// A value that the type does not allow.
    #[error("{attribute} must be {wanted}")]
    Syntax {
        /// The short name of the type.
        attribute: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// An unescaped plus sign, which joins two attributes into one part (RFC 4514 §2.2).
    #[error(
        "the + after {0} joins two attributes into one part (RFC 4514 §2.2), which is not issued here: put a comma between \
         them, or write \\+ if it is part of the value"
    )]
    MultiValued(&'static str),
    /// A special character that is not escaped.
    #[error("{found:?} in {attribute} must be escaped with a backslash")]
    Unescaped {
        /// The short name of the type.
        attribute: &'static str,
        /// The character.
        found: char,
    },
    /// A backslash before something that needs none.
    #[error("a backslash in {0} must stand before a special character or two hexadecimal digits")]
    Escape(&'static str),
    /// Escaped octets that are not UTF-8.
    #[error("the value of {attribute} is not UTF-8")]
    Utf8 {
        /// The short name of the type.
        attribute: &'static str,
        /// Where it ends to be UTF-8.
        source: std::string::FromUtf8Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_part_of_the_value() {
        for (text, attributes) in [
            (
                "CN=mainframe,OU=batch,O=Acme,C=US",
                &[
                    ("CN", "mainframe"),
                    ("OU", "batch"),
                    ("O", "Acme"),
                    ("C", "US"),
                ][..],
            ),
            (
                "cn=Doe\\, John,DC=test",
                &[("CN", "Doe, John"), ("DC", "test")],
            ),
            (
                "CN=\\#1 \\\"best\\\" \\+ a=b\\ ",
                &[("CN", "#1 \"best\" + a=b ")],
            ),
            ("CN=Z\\c3\\bcrich\\2c", &[("CN", "Zürich,")]),
            ("CN=two\\0alines", &[("CN", "two\nlines")]),
        ] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(
                subject.attributes().collect::<Vec<_>>(),
                attributes,
                "{text}"
            );
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, why) in [
            ("", "not of the form"),
            ("mainframe", "not of the form"),
            ("CN=a,", "not of the form"),
            ("CN=a, O=b", "no attribute type"),
            ("CN =a", "no attribute type"),
            ("2.5.4.3=a", "no attribute type"),
            ("/CN=a/O=b", "no attribute type"),
            ("CN=", "has no value"),
            ("CN=a,CN=b", "given twice"),
            ("CN=a+O=b", "the + after CN joins two attributes"),
            ("CN=a;O=b", "';' in CN"),
            ("CN=\"a,b\"", "'\"' in CN"),
            ("CN= a", "' ' in CN"),
            ("CN=a ", "' ' in CN"),
            ("CN=a ,O=b", "' ' in CN"),
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
