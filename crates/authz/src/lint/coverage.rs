//! Which patterns and rules match all, or nothing, of what others match. For advice only: when in doubt, the answer is
//! that they are unrelated.

use crate::policy::pattern::{Pattern, Patterns};
use crate::policy::rule::{HeaderRule, Rule};

/// Whether no value matches both of two rules for one header.
pub(crate) fn contradict(a: &HeaderRule, b: &HeaderRule) -> bool {
    !a.values
        .iter()
        .any(|x| b.values.iter().any(|y| overlap(x, y)))
}

/// Whether some text matches both.
fn overlap(a: &Pattern, b: &Pattern) -> bool {
    match (a, b) {
        (Pattern::Exact(text), other) | (other, Pattern::Exact(text)) => other.matches(text),
        (Pattern::Prefix(x), Pattern::Prefix(y)) => x.starts_with(&**y) || y.starts_with(&**x),
        (Pattern::Suffix(x), Pattern::Suffix(y)) => x.ends_with(&**y) || y.ends_with(&**x),
        (Pattern::Present | Pattern::Prefix(_) | Pattern::Suffix(_), _) => true,
    }
}

/// Whether `wide` matches all that `narrow` does.
pub(crate) fn subsumes(wide: &Pattern, narrow: &Pattern) -> bool {
    match (wide, narrow) {
        (Pattern::Present, Pattern::Exact(text)) => !text.is_empty(),
        (Pattern::Present, Pattern::Present | Pattern::Prefix(_) | Pattern::Suffix(_)) => true,
        // At the edges of a subject they need not.
        (Pattern::Prefix(text) | Pattern::Suffix(text), _) if kind(text) == NameKind::Subject => {
            wide == narrow
        }
        (Pattern::Prefix(p), Pattern::Exact(text) | Pattern::Prefix(text)) => {
            text.starts_with(&**p)
        }
        (Pattern::Suffix(s), Pattern::Exact(text) | Pattern::Suffix(text)) => text.ends_with(&**s),
        (Pattern::Exact(x), Pattern::Exact(y)) => x == y,
        (Pattern::Exact(_) | Pattern::Prefix(_) | Pattern::Suffix(_), _) => false,
    }
}

/// How many comparisons [`covers`] makes, at most.
pub(crate) fn cost(wide: &Rule, narrow: &Rule) -> usize {
    let of = |wide: &Patterns, narrow: &Patterns| {
        narrow.items().len().saturating_mul(1 + wide.wild().count())
    };
    1 + of(&wide.paths, &narrow.paths) + of(&wide.principals, &narrow.principals)
}

/// Whether a rule without headers matches all that another does.
pub(crate) fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let all = |wide: &Patterns, narrow: &Patterns| {
        let covered = |(pattern, _): &(Pattern, u32)| match pattern {
            Pattern::Exact(text) if wide.position(text).is_some() => true,
            Pattern::Exact(_) | Pattern::Present | Pattern::Prefix(_) | Pattern::Suffix(_) => {
                wide.wild().any(|wide| subsumes(wide, pattern))
            }
        };
        wide.is_empty() || (!narrow.is_empty() && narrow.items().iter().all(covered))
    };
    all(&wide.paths, &narrow.paths) && all(&wide.principals, &narrow.principals)
}

/// The only kind of name that a principal can be meant for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    Uri,
    Subject,
    Dns,
}

pub(crate) fn kind(text: &str) -> NameKind {
    match text {
        uri if has_scheme(uri) => NameKind::Uri,
        uri if uri.contains("://") && !uri.contains('=') => NameKind::Uri,
        subject if subject.contains('=') => NameKind::Subject,
        _ => NameKind::Dns,
    }
}

/// RFC 3986 §3.1.
pub(crate) fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}
