//! The decision of gRFC A43: deny if a deny rule matches, else allow if an allow rule matches, else deny.
//!
//! A pure, total function: no clock, no I/O. An allow allocates nothing, and rules for other paths or for other exact
//! principals cost nothing.

use std::collections::HashMap;

use http::HeaderMap;

use crate::policy::caller::{Caller, Identity};
use crate::policy::path;
use crate::policy::pattern::Pattern;
use crate::policy::rpc::Rpc;
use crate::policy::rule::Rule;

/// Whether an RPC may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It must not.
    Deny,
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The cause of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'a> {
    /// The first matching deny rule.
    DenyRule(&'a str),
    /// The first matching allow rule; no deny rule matched.
    AllowRule(&'a str),
    /// No rule matched, which is a denial.
    NoRule,
    /// The path is not `/service/method`: no rule was evaluated, which is a denial.
    MalformedPath,
}

/// The decision about one RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Why.
    pub cause: Cause<'a>,
    /// The name of the caller that the rule matched; without such a rule the caller's first name, or `""`.
    pub principal: &'a str,
}

impl<'a> Decision<'a> {
    /// Whether the RPC may run.
    pub fn verdict(&self) -> Verdict {
        match self.cause {
            Cause::AllowRule(_) => Verdict::Allow,
            Cause::DenyRule(_) | Cause::NoRule | Cause::MalformedPath => Verdict::Deny,
        }
    }

    /// Whether the verdict is [`Verdict::Allow`].
    pub fn is_allowed(&self) -> bool {
        self.verdict() == Verdict::Allow
    }

    /// The name of the rule that decided.
    pub fn rule(&self) -> Option<&'a str> {
        match self.cause {
            Cause::DenyRule(name) | Cause::AllowRule(name) => Some(name),
            Cause::NoRule | Cause::MalformedPath => None,
        }
    }
}

/// Decides by the two lists of a policy.
pub(crate) fn decide<'a>(
    deny: &'a RuleList,
    allow: &'a RuleList,
    caller: &'a Caller,
    path: &'a str,
    headers: &'a HeaderMap,
) -> Decision<'a> {
    let Some(rpc) = Rpc::new(caller, path, headers) else {
        return Decision {
            cause: Cause::MalformedPath,
            principal: caller.identity().principal(),
        };
    };
    let unmatched = rpc.identity.principal();
    if let Some((rule, principal)) = deny.first_match(rpc) {
        return Decision {
            cause: Cause::DenyRule(&rule.name),
            principal: principal.unwrap_or(unmatched),
        };
    }
    match allow.first_match(rpc) {
        Some((rule, principal)) => Decision {
            cause: Cause::AllowRule(&rule.name),
            principal: principal.unwrap_or(unmatched),
        },
        None => Decision {
            cause: Cause::NoRule,
            principal: unmatched,
        },
    }
}

/// Rules in the order of the text, and an index that leaves out those that cannot match.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleList {
    rules: Vec<Rule>,
    by_path: HashMap<Box<str>, Candidates>,
    by_service: HashMap<Box<str>, Candidates>,
    anywhere: Candidates,
}

/// Positions of rules, in rising order.
#[derive(Clone, Debug, Default)]
struct Candidates {
    by_principal: HashMap<Box<str>, Vec<usize>>,
    by_pattern: Vec<usize>,
}

impl RuleList {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let mut list = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            if rule.paths.is_empty() {
                list.anywhere.add(at, rule);
            }
            for path in rule.paths.exact() {
                list.by_path.entry(path.into()).or_default().add(at, rule);
            }
            for pattern in rule.paths.wild() {
                match pattern {
                    Pattern::Prefix(prefix) if path::is_service_prefix(prefix) => {
                        list.by_service
                            .entry(prefix.clone())
                            .or_default()
                            .add(at, rule);
                    }
                    Pattern::Prefix(_)
                    | Pattern::Suffix(_)
                    | Pattern::Present
                    | Pattern::Exact(_) => {
                        list.anywhere.add(at, rule);
                    }
                }
            }
        }
        list.rules = rules;
        list
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule in the order of the text that matches, and the name of the caller that it matched.
    fn first_match<'a>(&'a self, rpc: Rpc<'a>) -> Option<(&'a Rule, Option<&'a str>)> {
        let by_path = self.by_path.get(rpc.path.as_str());
        let by_service = self.by_service.get(rpc.path.service_prefix());
        let mut first: Option<(usize, Option<&str>)> = None;
        for candidates in [by_path, by_service, Some(&self.anywhere)]
            .into_iter()
            .flatten()
        {
            for positions in candidates.of(rpc.identity) {
                let before = first.map_or(usize::MAX, |(at, _)| at);
                let earlier = positions.iter().take_while(|&&at| at < before);
                let found = earlier
                    .filter_map(|&at| Some((at, self.rules[at].test(rpc).ok()?)))
                    .next();
                first = found.or(first);
            }
        }
        first.map(|(at, principal)| (&self.rules[at], principal))
    }
}

impl Candidates {
    fn add(&mut self, at: usize, rule: &Rule) {
        let push = |positions: &mut Vec<usize>| {
            if positions.last() != Some(&at) {
                positions.push(at);
            }
        };
        if rule.principals.is_empty() || rule.principals.wild().next().is_some() {
            push(&mut self.by_pattern);
        }
        for principal in rule.principals.exact() {
            push(self.by_principal.entry(principal.into()).or_default());
        }
    }

    fn of<'a>(&'a self, identity: Identity<'a>) -> impl Iterator<Item = &'a Vec<usize>> {
        let named = identity
            .names()
            .filter_map(|name| self.by_principal.get(name));
        named.chain([&self.by_pattern])
    }
}
