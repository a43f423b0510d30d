//! The decisions in numbers, for Prometheus. Never the name of a caller or of a rule.

use telemetry::Page;

use crate::authorization::{Authorization, Counts};

impl Authorization {
    /// Writes the families of decisions and of the audit log.
    pub fn metrics(&self, page: &mut Page) {
        let Counts {
            allowed,
            denied,
            malformed,
            ended,
            shadow_would_allow,
            shadow_would_deny,
            audit,
        } = self.counts();
        page.counter(
            "authz_decisions_total",
            "Calls that the policy let begin, or not; malformed ones have no method that a rule could name.",
        )
        .sample(&[("decision", "allow")], allowed)
        .sample(&[("decision", "deny")], denied)
        .sample(&[("decision", "malformed")], malformed);
        page.counter(
            "authz_calls_ended_total",
            "Running calls that a new policy ended.",
        )
        .sample(&[], ended);
        page.counter(
            "authz_shadow_differences_total",
            "Calls about which the shadow policy decided otherwise, by what it would have done.",
        )
        .sample(&[("would", "allow")], shadow_would_allow)
        .sample(&[("would", "deny")], shadow_would_deny);
        page.counter(
            "authz_audit_events_total",
            "Audit events, by what became of them; dropped and failed ones are in no log.",
        )
        .sample(&[("result", "written")], audit.written)
        .sample(&[("result", "failed")], audit.failed)
        .sample(&[("result", "dropped")], audit.dropped)
        .sample(&[("result", "left_out")], audit.left_out);
    }
}
