//! Explains a decision, rule by rule.
//!
//! The decision is that of `decide`, and each rule is tested by the same function.

use std::fmt;

use http::HeaderMap;

use crate::policy::caller::{Caller, Identity};
use crate::policy::compiled::Policy;
use crate::policy::decide::{Decision, RuleList};
use crate::policy::rpc::Rpc;
use crate::policy::rule::{List, Mismatch, Rule};

/// A decision and the result of each rule.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// The decision.
    pub decision: Decision<'a>,
    /// The names by which the policy knows the caller.
    pub identity: Identity<'a>,
    /// Every rule, the deny rules first, in the order of the text; none for a path that is not `/service/method`.
    pub rules: Vec<RuleOutcome<'a>>,
}

/// The result of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleOutcome<'a> {
    /// Which list it is in.
    pub list: List,
    /// Its name.
    pub name: &'a str,
    /// The line on which it begins, from 1.
    pub line: u32,
    /// Whether it matches.
    pub outcome: Outcome<'a>,
}

/// Whether a rule matches, and if not, the first part of it that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It matches.
    Matches {
        /// The name of the caller that it matches; `None` for a rule that asks for none.
        principal: Option<&'a str>,
    },
    /// None of its paths is that of the RPC.
    OtherPath,
    /// None of its principals is a name of the caller that counts.
    OtherPrincipal,
    /// A header is missing.
    NoHeader {
        /// The key.
        key: &'a str,
    },
    /// A header has none of the values.
    OtherHeader {
        /// The key.
        key: &'a str,
    },
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matches {
                principal: Some(principal),
            } => write!(f, "matches {principal:?}"),
            Self::Matches { principal: None } => f.write_str("matches any caller"),
            Self::OtherPath => f.write_str("is for other paths"),
            Self::OtherPrincipal => f.write_str("is for other principals"),
            Self::NoHeader { key } => {
                write!(f, "requires the header {key}, which the call does not have")
            }
            Self::OtherHeader { key } => write!(f, "wants other values of the header {key}"),
        }
    }
}

impl Policy {
    /// The same decision, and of every rule whether it matches and if not, why.
    pub fn explain<'a>(
        &'a self,
        caller: &'a Caller,
        path: &'a str,
        headers: &'a HeaderMap,
    ) -> Explanation<'a> {
        explain(self, caller, path, headers)
    }
}

fn explain<'a>(
    policy: &'a Policy,
    caller: &'a Caller,
    path: &'a str,
    headers: &'a HeaderMap,
) -> Explanation<'a> {
    let mut rules = Vec::new();
    if let Some(rpc) = Rpc::new(caller, path, headers) {
        rules.extend(outcomes(List::Deny, &policy.deny, rpc));
        rules.extend(outcomes(List::Allow, &policy.allow, rpc));
    }
    Explanation {
        decision: policy.decide(caller, path, headers),
        identity: caller.identity(),
        rules,
    }
}

fn outcomes<'a>(
    list: List,
    rules: &'a RuleList,
    rpc: Rpc<'a>,
) -> impl Iterator<Item = RuleOutcome<'a>> {
    rules.rules().iter().map(move |rule| RuleOutcome {
        list,
        name: &rule.name,
        line: rule.line,
        outcome: outcome(rule, rpc),
    })
}

fn outcome<'a>(rule: &'a Rule, rpc: Rpc<'a>) -> Outcome<'a> {
    match rule.test(rpc) {
        Ok(principal) => Outcome::Matches { principal },
        Err(Mismatch::Path) => Outcome::OtherPath,
        Err(Mismatch::Principal) => Outcome::OtherPrincipal,
        Err(Mismatch::Header(header)) => {
            let key = header.key.as_str();
            match rpc.headers.contains_key(&header.key) {
                true => Outcome::OtherHeader { key },
                false => Outcome::NoHeader { key },
            }
        }
    }
}
