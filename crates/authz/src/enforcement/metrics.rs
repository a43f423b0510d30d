//! The metrics of decisions. No label is the name of a caller or of a rule.

use base::metrics::{self, NONE};
use prometheus_client::registry::Registry;

use crate::enforcement::authorization::Authorization;

impl Authorization {
    /// Registers the metrics of decisions and of the audit log.
    pub fn register(&self, registry: &mut Registry) {
        let authorization = self.clone();
        metrics::register(registry, move |families| {
            let (decisions, audit) = (authorization.counts(), authorization.audit().counts());
            families.counter(
                "authz_decisions",
                "Calls by the policy's decision; a malformed call has no method that a rule could name.",
                [
                    ([("decision", "allow")], decisions.allowed.get()),
                    ([("decision", "deny")], decisions.denied.get()),
                    ([("decision", "malformed")], decisions.malformed.get()),
                ],
            )?;
            families.counter(
                "authz_calls_ended",
                "Running calls that a new policy ended.",
                [(NONE, decisions.ended.get())],
            )?;
            families.counter(
                "authz_shadow_differences",
                "Calls that the shadow policy decided differently, by its decision.",
                [
                    ([("would", "allow")], decisions.shadow_would_allow.get()),
                    ([("would", "deny")], decisions.shadow_would_deny.get()),
                ],
            )?;
            families.counter(
                "authz_audit_events",
                "Audit events by result; dropped and failed ones are in no log.",
                [
                    ([("result", "written")], audit.written.get()),
                    ([("result", "failed")], audit.failed.get()),
                    ([("result", "dropped")], audit.dropped.get()),
                    ([("result", "left_out")], audit.left_out.get()),
                ],
            )
        });
    }
}
