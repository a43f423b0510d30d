//! A compiled policy. Only `Policy::parse` makes one, so it is complete and valid.

use std::collections::HashSet;

use http::HeaderMap;

use crate::audit::event::AuditOptions;
use crate::policy::caller::Caller;
use crate::policy::decide::{self, Decision, RuleList};
use crate::policy::pattern::Patterns;
use crate::policy::rule::Rule;

/// An authorization policy of gRFC A43, ready to decide.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) name: Box<str>,
    pub(crate) deny: RuleList,
    pub(crate) allow: RuleList,
    /// Where the list of its allow rules begins.
    pub(crate) allow_line: u32,
    pub(crate) audit: AuditOptions,
    /// Lists that are present but empty: they match everything, which may not be intended.
    pub(crate) empty_lists: Vec<(String, u32)>,
    /// Whether a rule has a header.
    pub(crate) reads_metadata: bool,
}

impl Policy {
    /// The limit when a policy is read from a file: 16 MiB.
    pub const MAX_BYTES: u64 = 16 << 20;

    /// The name of the policy; it is in every audit event.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The principals that the rules name, each once, as written and in the order of the text.
    pub fn principals(&self) -> Vec<String> {
        distinct(self.rules().map(|rule| &rule.principals))
    }

    /// The paths that the rules name, each once, as written and in the order of the text.
    pub fn paths(&self) -> Vec<String> {
        distinct(self.rules().map(|rule| &rule.paths))
    }

    /// Whether a rule asks for a header, which the caller chooses per call.
    pub fn reads_metadata(&self) -> bool {
        self.reads_metadata
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.deny.rules().iter().chain(self.allow.rules())
    }

    /// Whether `caller` may run the RPC `path` with `headers`.
    ///
    /// `path` is the path that is routed, all of it, with its query if there is one. Pure and total: the same
    /// answer for the same question, for any input; an allow allocates nothing.
    pub fn decide<'a>(
        &'a self,
        caller: &'a Caller,
        path: &'a str,
        headers: &'a HeaderMap,
    ) -> Decision<'a> {
        decide::decide(&self.deny, &self.allow, caller, path, headers)
    }
}

fn distinct<'a>(lists: impl Iterator<Item = &'a Patterns>) -> Vec<String> {
    let mut seen = HashSet::new();
    lists
        .flat_map(Patterns::items)
        .map(|(pattern, _line)| pattern.to_string())
        .filter(|text| seen.insert(text.clone()))
        .collect()
}
