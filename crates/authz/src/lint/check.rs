//! Finds likely mistakes in a valid policy, by itself and against an API. They are advice; decisions do not depend on
//! them.

use std::collections::HashMap;

use base::api::Api;

use crate::lint::coverage;
use crate::lint::finding::{Finding, Findings, Located};
use crate::lint::lints;
use crate::policy::compiled::Policy;
use crate::policy::decide::RuleList;
use crate::policy::pattern::Pattern;
use crate::policy::rule::{List, Rule};

/// Checks a policy by itself, for any gRPC service.
pub fn lint(policy: &Policy) -> Vec<Finding> {
    let mut findings = Findings::default();
    for (pointer, line) in &policy.empty_lists {
        findings.warn(
            (pointer.clone(), *line),
            "empty-list",
            "an empty list matches everything: leave it out or fill it".into(),
        );
    }
    for located in rules(policy) {
        lints::rule(located, &mut findings);
    }
    across_rules(policy, &mut findings);
    lints::audit(policy, &mut findings);
    findings.sorted()
}

/// Checks a policy by itself and against the RPCs that it is for.
///
/// The findings are in the order of the text.
pub fn check(policy: &Policy, api: &Api) -> Vec<Finding> {
    let mut findings = Findings {
        all: lint(policy),
        compared: 0,
    };
    let mut hints = MAX_HINTS;
    for located in rules(policy) {
        for (at, (pattern, line)) in located.rule.paths.items().iter().enumerate() {
            // A pattern that fits no path at all has its finding already.
            if lints::fits_some_path(pattern) && !reaches(pattern, api) {
                let hint = match pattern {
                    Pattern::Exact(path) if hints > 0 => {
                        hints -= 1;
                        api.nearest(path)
                    }
                    Pattern::Exact(_)
                    | Pattern::Present
                    | Pattern::Prefix(_)
                    | Pattern::Suffix(_) => None,
                };
                let hint = hint
                    .map(|path| format!("; did you mean {path}?"))
                    .unwrap_or_default();
                findings.error(
                    (located.pointer(&format!("request/paths/{at}")), *line),
                    "unknown-path",
                    format!("{:?} names no RPC of this API{hint}", pattern.to_string()),
                );
            }
        }
    }
    for path in api.paths() {
        let mentions = |located: Located<'_>| match located.rule.paths.is_empty() {
            // A deny rule for all paths does not say who may call this one.
            true => located.list == List::Allow,
            false => located.rule.paths.matches(path),
        };
        if !rules(policy).any(mentions) {
            findings.warn(
                ("/allow_rules".into(), policy.allow_line),
                "uncovered-rpc",
                format!(
                    "no rule mentions {path}, so no one may call it: allow it, or deny it explicitly"
                ),
            );
        }
    }
    findings.sorted()
}

/// A hint compares with every RPC; the first few are enough.
const MAX_HINTS: usize = 20;

fn reaches(pattern: &Pattern, api: &Api) -> bool {
    match pattern {
        Pattern::Exact(path) => api.is_known(path),
        Pattern::Present | Pattern::Prefix(_) | Pattern::Suffix(_) => {
            api.known().any(|path| pattern.matches(path))
        }
    }
}

/// What one rule does to another.
fn across_rules(policy: &Policy, findings: &mut Findings) {
    let denied: HashMap<&str, u32> = policy
        .deny
        .rules()
        .iter()
        .map(|rule| (&*rule.name, rule.line))
        .collect();
    let unconditional: Vec<&Rule> = policy
        .deny
        .rules()
        .iter()
        .filter(|rule| rule.headers.is_empty())
        .collect();
    for located in list(&policy.allow, List::Allow) {
        let rule = located.rule;
        if let Some(line) = denied.get(&*rule.name) {
            findings.warn(
                located.whole(),
                "same-name",
                format!("the deny rule on line {line} has the same name, so an audit log cannot tell them apart"),
            );
        }
        let covering = match findings.afford(|| unconditional.len()) {
            true => unconditional.iter().find(|deny| {
                findings.afford(|| coverage::cost(deny, rule)) && coverage::covers(deny, rule)
            }),
            false => None,
        };
        if let Some(deny) = covering {
            // It may be intended: to close a service or to exclude a caller for a while.
            findings.warn(
                located.whole(),
                "never-allows",
                format!(
                    "the deny rule {:?} on line {} denies all that this rule allows",
                    deny.name, deny.line
                ),
            );
        }
    }
}

pub(crate) fn rules(policy: &Policy) -> impl Iterator<Item = Located<'_>> {
    list(&policy.deny, List::Deny).chain(list(&policy.allow, List::Allow))
}

fn list(rules: &RuleList, list: List) -> impl Iterator<Item = Located<'_>> {
    rules
        .rules()
        .iter()
        .enumerate()
        .map(move |(at, rule)| Located { rule, list, at })
}
