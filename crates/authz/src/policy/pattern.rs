//! The string patterns of gRFC A43: `*`, `prefix*`, `*suffix`, and everything else exact.
//!
//! They are not regular expressions, not trimmed and not case-folded; a `*` anywhere else is literal.

use std::collections::HashMap;
use std::fmt;

/// One pattern of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// `*`: any text but the empty one.
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
}

/// `**`, `*x*`: implementations differ on these, so they are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StarAtBothEnds;

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, StarAtBothEnds> {
        if text == "*" {
            return Ok(Self::Present);
        }
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(_), Some(_)) => Err(StarAtBothEnds),
            (Some(suffix), None) => Ok(Self::Suffix(suffix.into())),
            (None, Some(prefix)) => Ok(Self::Prefix(prefix.into())),
            (None, None) => Ok(Self::Exact(text.into())),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
        }
    }

    /// Like [`Self::matches`], but a prefix ends and a suffix begins at the edge of an RDN (RFC 4514).
    ///
    /// The holder of a certificate may choose one value in it: `CN=x\,O=Acme` must not end in `,O=Acme`, nor
    /// `CN=alice-evil` begin with `CN=alice`.
    pub(crate) fn matches_subject(&self, subject: &str) -> bool {
        self.matches(subject)
            && match self {
                Self::Present | Self::Exact(_) => true,
                Self::Prefix(prefix) => is_rdn_edge(subject, prefix.len()),
                Self::Suffix(suffix) => is_rdn_edge(subject, subject.len() - suffix.len()),
            }
    }

    /// Like [`Self::matches`], for the values of a repeated header joined by commas (gRFC A41), without joining them.
    pub(crate) fn matches_joined<'a>(
        &self,
        mut values: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> bool {
        match self {
            Self::Present => values
                .next()
                .is_some_and(|first| !first.is_empty() || values.next().is_some()),
            Self::Exact(exact) => consume(exact.as_bytes(), values) == Rest::Both,
            Self::Prefix(prefix) => {
                matches!(
                    consume(prefix.as_bytes(), values),
                    Rest::Both | Rest::Values
                )
            }
            Self::Suffix(suffix) => ends_with(suffix.as_bytes(), values),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Whether an RDN ends or begins at `at`: the ends of the name, or either side of a comma that is not escaped.
fn is_rdn_edge(subject: &str, at: usize) -> bool {
    at == 0
        || at == subject.len()
        || is_separator(subject.as_bytes(), at)
        || is_separator(subject.as_bytes(), at - 1)
}

fn is_separator(subject: &[u8], at: usize) -> bool {
    let backslashes = subject[..at]
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\\')
        .count();
    subject[at] == b',' && backslashes % 2 == 0
}

/// What is left when a text and the joined values have been compared from the front.
#[derive(PartialEq, Eq)]
enum Rest {
    /// Nothing of either: they are equal.
    Both,
    /// The text is used up, values are left.
    Values,
    /// They differ, or the values are used up first.
    Differs,
}

fn consume<'a>(mut text: &[u8], values: impl Iterator<Item = &'a [u8]>) -> Rest {
    let mut first = true;
    for value in values {
        if !first {
            let Some((comma, rest)) = text.split_first() else {
                return Rest::Values;
            };
            if *comma != b',' {
                return Rest::Differs;
            }
            text = rest;
        }
        first = false;
        if text.len() < value.len() {
            return if value.starts_with(text) {
                Rest::Values
            } else {
                Rest::Differs
            };
        }
        let Some(rest) = text.strip_prefix(value) else {
            return Rest::Differs;
        };
        text = rest;
    }
    // An absent header is not an empty one.
    if text.is_empty() && !first {
        Rest::Both
    } else {
        Rest::Differs
    }
}

fn ends_with<'a>(mut text: &[u8], values: impl DoubleEndedIterator<Item = &'a [u8]>) -> bool {
    let mut last = true;
    for value in values.rev() {
        if !last {
            let Some((comma, rest)) = text.split_last() else {
                return true;
            };
            if *comma != b',' {
                return false;
            }
            text = rest;
        }
        last = false;
        if text.len() <= value.len() {
            return value.ends_with(text);
        }
        let Some(rest) = text.strip_suffix(value) else {
            return false;
        };
        text = rest;
    }
    text.is_empty()
}

/// A list of patterns, one of which must match; an empty list matches everything (gRFC A43).
///
/// All exact patterns together cost one look-up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    items: Vec<(Pattern, u32)>,
    exact: HashMap<Box<str>, usize>,
    wild: Vec<usize>,
}

impl Patterns {
    /// `items` are the patterns with their lines in the policy.
    pub(crate) fn new(items: Vec<(Pattern, u32)>) -> Self {
        let mut exact = HashMap::new();
        let mut wild = Vec::new();
        for (at, (pattern, _)) in items.iter().enumerate() {
            match pattern {
                Pattern::Exact(text) => drop(exact.entry(text.clone()).or_insert(at)),
                Pattern::Present | Pattern::Prefix(_) | Pattern::Suffix(_) => wild.push(at),
            }
        }
        Self { items, exact, wild }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The patterns as written, each with its line.
    pub(crate) fn items(&self) -> &[(Pattern, u32)] {
        &self.items
    }

    /// The position of the first exact pattern that is `text`.
    pub(crate) fn position(&self, text: &str) -> Option<usize> {
        self.exact.get(text).copied()
    }

    pub(crate) fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(|text| &**text)
    }

    pub(crate) fn wild(&self) -> impl Iterator<Item = &Pattern> {
        self.wild.iter().map(|&at| &self.items[at].0)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.exact.contains_key(text) || self.wild().any(|pattern| pattern.matches(text))
    }

    pub(crate) fn matches_subject(&self, subject: &str) -> bool {
        self.exact.contains_key(subject)
            || self.wild().any(|pattern| pattern.matches_subject(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_at_both_ends_is_refused() {
        for text in ["**", "*x*", "***", "*/a/*"] {
            assert_eq!(Pattern::parse(text), Err(StarAtBothEnds), "{text}");
        }
        for text in ["*", "", "a*", "*a", "a*b", "*a*b", "a*b*"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn a_subject_matches_at_the_edges_of_its_rdns() {
        for (text, subject, expected, why) in [
            (
                "CN=alice*",
                "CN=alice,O=Acme",
                true,
                "the prefix is a whole RDN",
            ),
            (
                "CN=alice,*",
                "CN=alice,O=Acme",
                true,
                "the prefix ends with the separator",
            ),
            (
                "CN=alice*",
                "CN=alice",
                true,
                "the prefix is the whole name",
            ),
            (
                "CN=alice*",
                "CN=alice-evil,O=Acme",
                false,
                "the prefix ends inside a value",
            ),
            (
                "CN=alice*",
                r"CN=alice\,x,O=Acme",
                false,
                "the comma is escaped",
            ),
            (
                r"CN=alice\,*",
                r"CN=alice\,x,O=Acme",
                false,
                "the prefix ends in an escaped comma",
            ),
            (
                r"CN=alice\\*",
                r"CN=alice\\,O=Acme",
                true,
                "the backslash is escaped, the comma is not",
            ),
            ("*,O=Acme", "CN=x,O=Acme", true, "the suffix is a whole RDN"),
            (
                "*O=Acme",
                "CN=x,O=Acme",
                true,
                "the suffix begins after the separator",
            ),
            ("*O=Acme", "O=Acme", true, "the suffix is the whole name"),
            (
                "*,O=Acme",
                r"CN=x\,O=Acme",
                false,
                "an escaped comma forges no RDN",
            ),
            (
                "*O=Acme",
                r"CN=x\,O=Acme",
                false,
                "nor does what follows it",
            ),
            (
                "*O=Acme",
                "CN=x,DO=Acme",
                false,
                "the suffix begins inside a type",
            ),
            (
                r"*,O=Acme",
                r"CN=x\\,O=Acme",
                true,
                "an escaped backslash escapes no comma",
            ),
            ("*", "CN=x", true, "present"),
            ("*", "", false, "no name"),
        ] {
            assert_eq!(
                pattern(text).matches_subject(subject),
                expected,
                "{text} on {subject}: {why}"
            );
        }
    }

    #[test]
    fn values_match_as_if_they_were_joined() {
        let values: [&[&str]; 9] = [
            &[],
            &[""],
            &["a"],
            &["a", "b"],
            &["", ""],
            &["a,b"],
            &["ab", "", "c"],
            &[",", "a"],
            &["b", "a"],
        ];
        let texts = [
            "*", "", ",", "a", "b", "a,b", "ab,,c", "a*", "*b", "a,*", "*,b", ",*", "*,", "*,c",
            "*b,,c", "ab,*", "b,ab*",
        ];
        for values in values {
            let joined = (!values.is_empty()).then(|| values.join(","));
            for text in texts {
                let pattern = pattern(text);
                assert_eq!(
                    pattern.matches_joined(values.iter().map(|value| value.as_bytes())),
                    joined
                        .as_ref()
                        .is_some_and(|joined| pattern.matches(joined)),
                    "{text} on {values:?}"
                );
            }
        }
    }
}
