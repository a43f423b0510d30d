//! Authorization of a server's calls: the policy, a shadow policy, the audit log, and counts.
//!
//! A denied caller learns only that it is denied, and an id.

use std::sync::Arc;

use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::{info, warn};
use uuid::Uuid;

use crate::audit::log::Audit;
use crate::codes::{POLICY_CHANGED, POLICY_DENIED};
use crate::enforcement::live::{InForce, LivePolicy};
use crate::events;
use crate::policy::caller::Caller;
use crate::policy::compiled::Policy;
use crate::policy::decide::{Cause, Decision, Verdict};

/// The domain of the reasons in `google.rpc.ErrorInfo` that come from a policy.
pub const ERROR_DOMAIN: &str = "authz.countersign";

/// Authorization for all connections of a server; clones share everything.
#[derive(Clone, Debug)]
pub struct Authorization {
    policy: LivePolicy,
    shadow: Option<LivePolicy>,
    audit: Arc<Audit>,
    counts: Arc<DecisionCounts>,
}

/// The counts of decisions since the start.
#[derive(Debug, Default)]
pub struct DecisionCounts {
    /// Allowed calls.
    pub allowed: Counter,
    /// Denied calls.
    pub denied: Counter,
    /// Calls whose path is not `/service/method`, so that no rule was evaluated.
    pub malformed: Counter,
    /// Running calls that a new policy ended.
    pub ended: Counter,
    /// Calls that the policy denied and the shadow policy would allow.
    pub shadow_would_allow: Counter,
    /// Calls that the policy allowed and the shadow policy would deny.
    pub shadow_would_deny: Counter,
}

impl Authorization {
    /// Authorization by `policy`.
    pub fn new(policy: LivePolicy) -> Self {
        Self {
            policy,
            shadow: None,
            audit: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// Adds a shadow policy: it is evaluated too, but only differences from the policy in force are logged and counted.
    #[must_use]
    pub fn with_shadow(self, shadow: LivePolicy) -> Self {
        Self {
            shadow: Some(shadow),
            ..self
        }
    }

    /// Whether there is a shadow policy.
    pub fn has_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    /// The counts since the start.
    pub fn counts(&self) -> &DecisionCounts {
        &self.counts
    }

    /// The audit log, to be flushed before the process ends.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(crate) fn policy(&self) -> &LivePolicy {
        &self.policy
    }

    /// Whether an allow by `policy` has no effect but its count, for any headers of the call.
    pub(crate) fn is_silent(&self, policy: &Policy) -> bool {
        let is_audited = policy.audit.condition.wants(Verdict::Allow);
        self.shadow.is_none() && !is_audited && !policy.reads_metadata()
    }

    /// Counts a call that is allowed by a cached decision.
    pub(crate) fn admit_again(&self) {
        self.counts.allowed.inc();
    }

    /// Decides a new call, and records the decision.
    pub(crate) fn admit(
        &self,
        in_force: &InForce,
        caller: &Caller,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Status> {
        let decision = in_force.policy.decide(caller, path, headers);
        if decision.cause == Cause::MalformedPath {
            self.counts.malformed.inc();
            warn!(
                principal = decision.principal,
                path = shown(path),
                "{}",
                events::MALFORMED_PATH
            );
            return Err(Status::unimplemented("the path is not /service/method"));
        }
        self.compare(decision, caller, path, headers);
        if decision.is_allowed() {
            self.counts.allowed.inc();
            if in_force.policy.audit.condition.wants(Verdict::Allow) {
                self.record(in_force, caller, decision, path, Uuid::now_v7());
            }
            return Ok(());
        }
        self.counts.denied.inc();
        let text = "the policy does not allow this call";
        Err(self.refuse((POLICY_DENIED, text), in_force, caller, decision, path))
    }

    /// Decides a running call again, by a new policy.
    pub(crate) fn keep(
        &self,
        in_force: &InForce,
        caller: &Caller,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Status> {
        let decision = in_force.policy.decide(caller, path, headers);
        if decision.is_allowed() {
            return Ok(());
        }
        self.counts.ended.inc();
        let text = "the policy changed and no longer allows this call";
        Err(self.refuse((POLICY_CHANGED, text), in_force, caller, decision, path))
    }

    /// Records a denial and logs its reason. The caller gets only an id to ask with.
    fn refuse(
        &self,
        (reason, text): (&'static str, &'static str),
        in_force: &InForce,
        caller: &Caller,
        decision: Decision<'_>,
        path: &str,
    ) -> Status {
        let id = Uuid::now_v7();
        if in_force.policy.audit.condition.wants(Verdict::Deny) {
            self.record(in_force, caller, decision, path, id);
        }
        let id = id.to_string();
        warn!(
            reason,
            decision_id = id,
            method = shown(path),
            principal = decision.principal,
            rule = decision.rule(),
            policy = in_force.policy.name(),
            generation = in_force.generation,
            "{}",
            events::CALL_REFUSED
        );
        let metadata = [("decision_id".to_owned(), id)];
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
        Status::with_error_details(Code::PermissionDenied, text, details)
    }

    fn record(
        &self,
        in_force: &InForce,
        caller: &Caller,
        decision: Decision<'_>,
        path: &str,
        id: Uuid,
    ) {
        let (policy, identity) = (&in_force.policy, caller.identity());
        self.audit
            .record(policy, identity, decision, shown(path), id);
    }

    fn compare(&self, decision: Decision<'_>, caller: &Caller, path: &str, headers: &HeaderMap) {
        let Some(shadow) = &self.shadow else { return };
        let shadow = shadow.current();
        let would = shadow.decide(caller, path, headers);
        let counter = match (decision.verdict(), would.verdict()) {
            (Verdict::Allow, Verdict::Allow) | (Verdict::Deny, Verdict::Deny) => return,
            (Verdict::Deny, Verdict::Allow) => &self.counts.shadow_would_allow,
            (Verdict::Allow, Verdict::Deny) => &self.counts.shadow_would_deny,
        };
        counter.inc();
        info!(
            method = shown(path),
            principal = would.principal,
            verdict = decision.verdict().as_str(),
            rule = decision.rule(),
            shadow_policy = shadow.name(),
            shadow_verdict = would.verdict().as_str(),
            shadow_rule = would.rule(),
            "{}",
            events::SHADOW_DIFFERS
        );
    }
}

/// The beginning of a path. The caller chooses the path; no served method is longer than this.
fn shown(path: &str) -> &str {
    &path[..path.floor_char_boundary(256)]
}
