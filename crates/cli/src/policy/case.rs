//! Cases, as users write them for their CI, and what becomes of each.

use authz::{Decision, Policy, Verdict};
use serde::{Deserialize, Serialize};

use super::peer::{DescribedCaller, Metadata};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    pub(super) cases: Vec<Case>,
}

/// One RPC and what should become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) peer: DescribedCaller,
    pub(super) method: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) expect: Expect,
    /// The rule that has to decide, as the audit log names it; `""` for none.
    pub(super) matched_rule: Option<String>,
    /// A remark for readers of the file.
    #[serde(default, rename = "note")]
    _note: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expect {
    Allow,
    Deny,
}

impl From<Expect> for Verdict {
    fn from(expect: Expect) -> Self {
        match expect {
            Expect::Allow => Self::Allow,
            Expect::Deny => Self::Deny,
        }
    }
}

impl Case {
    pub(super) fn decide<'a>(&'a self, policy: &'a Policy) -> Decision<'a> {
        policy.decide(&self.peer.0, &self.method, &self.metadata.0)
    }

    pub(super) fn holds(&self, decision: Decision<'_>) -> bool {
        let rule = self.matched_rule.as_deref();
        decision.verdict() == self.expect.into()
            && rule.is_none_or(|rule| decision.rule().unwrap_or_default() == rule)
    }
}

/// The answers of a command, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Results<T> {
    results: Vec<T>,
}

impl<T> Results<T> {
    pub(super) fn of(results: impl IntoIterator<Item = T>) -> Self {
        let results = results.into_iter().collect();
        Self { results }
    }
}

/// What a policy says of one RPC, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    pub(super) decision: &'static str,
    /// The rule that decided, or `""` when none did.
    pub(super) matched_rule: &'a str,
    /// The name of the caller that the rule matched; without such a rule its first name, or `""`.
    principal: &'a str,
}

impl Answer<'_> {
    /// Without asking a policy.
    pub(super) fn of_nobody(decision: &'static str) -> Self {
        Self {
            decision,
            matched_rule: "",
            principal: "",
        }
    }
}

impl<'a> From<Decision<'a>> for Answer<'a> {
    fn from(decision: Decision<'a>) -> Self {
        Self {
            decision: decision.verdict().as_str(),
            matched_rule: decision.rule().unwrap_or_default(),
            principal: decision.principal,
        }
    }
}

/// What became of one RPC, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult<'a> {
    pub(super) name: &'a str,
    #[serde(flatten)]
    answer: Answer<'a>,
    /// Whether it is as expected; true when nothing is.
    ok: bool,
}

impl<'a> CaseResult<'a> {
    pub(super) fn new(name: &'a str, decision: Decision<'a>, ok: bool) -> Self {
        Self {
            name,
            answer: decision.into(),
            ok,
        }
    }
}
