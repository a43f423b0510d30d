//! The metrics of decisions. No label is the name of a caller or of a rule.

use base::metrics::{self, NONE};
use prometheus_client::registry::Registry;

use crate::enforcement::authorization::{Authorization, DecisionCounts};

impl Authorization {
    /// Registers the metrics of decisions and of the audit log.
    pub fn register(&self, registry: &mut Registry) {
        let authorization = self.clone();
        metrics::register(registry, move |families| {
            let DecisionCounts {
                allowed,
                denied,
                malformed,
                ended,
                shadow_would_allow,
                shadow_would_deny,
                audit,
            } = authorization.counts();
            families.counter(
                "authz_decisions",
                "Calls by the policy's decision; a malformed call has no method that a rule could name.",
                [
                    ([("decision", "allow")], allowed),
                    ([("decision", "deny")], denied),
                    ([("decision", "malformed")], malformed),
                ],
            )?;
            families.counter(
                "authz_calls_ended",
                "Running calls that a new policy ended.",
                [(NONE, ended)],
            )?;
            families.counter(
                "authz_shadow_differences",
                "Calls that the shadow policy decided differently, by its decision.",
                [
                    ([("would", "allow")], shadow_would_allow),
                    ([("would", "deny")], shadow_would_deny),
                ],
            )?;
            families.counter(
                "authz_audit_events",
                "Audit events by result; dropped and failed ones are in no log.",
                [
                    ([("result", "written")], audit.written),
                    ([("result", "failed")], audit.failed),
                    ([("result", "dropped")], audit.dropped),
                    ([("result", "left_out")], audit.left_out),
                ],
            )
        });
    }
}
