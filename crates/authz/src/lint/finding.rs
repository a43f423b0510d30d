//! A likely mistake in a policy, and its place.

use std::fmt;

use crate::policy::rule::{List, Rule};

/// How many patterns are compared, which takes less than a second. A larger policy gets less advice, and a finding that
/// says so.
const MAX_COMPARISONS: usize = 5_000_000;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It cannot be intended.
    Error,
    /// It may be intended.
    Warning,
}

/// A likely mistake in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How sure it is.
    pub severity: Severity,
    /// The JSON pointer (RFC 6901) of the value it is about.
    pub pointer: String,
    /// The line on which that value begins, from 1.
    pub line: u32,
    /// What kind of finding, stable and in kebab-case.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity: _,
            pointer,
            line,
            code,
            message,
        } = self;
        write!(f, "line {line}: {pointer}: {message} [{code}]")
    }
}

/// A rule and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) list: List,
    pub(crate) at: usize,
}

impl Located<'_> {
    pub(crate) fn pointer(&self, within: &str) -> String {
        format!("{}/{within}", self.whole().0)
    }

    pub(crate) fn whole(&self) -> (String, u32) {
        (format!("/{}_rules/{}", self.list, self.at), self.rule.line)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) all: Vec<Finding>,
    pub(crate) compared: usize,
}

impl Findings {
    /// Whether this many more comparisons may be made.
    pub(crate) fn afford(&mut self, comparisons: impl FnOnce() -> usize) -> bool {
        if self.compared > MAX_COMPARISONS {
            return false;
        }
        self.compared = self.compared.saturating_add(comparisons());
        let affordable = self.compared <= MAX_COMPARISONS;
        if !affordable {
            let message = "the policy is too large to compare all of its patterns with each other";
            self.warn((String::new(), 1), "not-compared", message.into());
        }
        affordable
    }

    pub(crate) fn error(&mut self, place: (String, u32), code: &'static str, message: String) {
        self.push(Severity::Error, place, code, message);
    }

    pub(crate) fn warn(&mut self, place: (String, u32), code: &'static str, message: String) {
        self.push(Severity::Warning, place, code, message);
    }

    fn push(
        &mut self,
        severity: Severity,
        place: (String, u32),
        code: &'static str,
        message: String,
    ) {
        let (pointer, line) = place;
        self.all.push(Finding {
            severity,
            pointer,
            line,
            code,
            message,
        });
    }

    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.all.sort_by_key(|finding| finding.line);
        self.all
    }
}
