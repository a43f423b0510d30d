//! The numbers of this service beside those of its transport and its policy, and the page that has them all.

use std::sync::Arc;

use authz::{Api, Authorization};
use mtls::Trust;
use telemetry::{CallLines, CountBy, Input, Observer, Page, Traces};

/// What the service counts, since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Every call on the port.
    pub(crate) calls: Observer,
    /// Calls that a limit turned away, by the limit.
    pub(crate) shed: CountBy,
    /// Requests that were no gRPC calls, by why not.
    pub(crate) not_calls: CountBy,
    /// What became of reading the policy.
    pub(crate) policy: Arc<Input>,
    /// What became of reading the shadow policy.
    pub(crate) shadow_policy: Arc<Input>,
}

impl Metrics {
    /// Nothing yet, of the methods of `api`. Those calls that `lines` says have a line in the log.
    pub(crate) fn new(api: &Api, traces: Traces, lines: CallLines) -> Self {
        Self {
            calls: Observer::of_server(api.paths().map(str::to_owned), traces, lines),
            shed: CountBy::default(),
            not_calls: CountBy::default(),
            policy: Arc::default(),
            shadow_policy: Arc::default(),
        }
    }

    /// Writes all that the admin port shows but the health.
    pub(crate) fn page(&self, trust: &Trust, authorization: &Authorization, page: &mut Page) {
        self.calls.metrics(page);
        let mut shed = page.counter(
            "rpc_server_shed_total",
            "Calls that a limit turned away, by the limit.",
        );
        for (reason, count) in self.shed.get() {
            shed.sample(&[("reason", reason)], count);
        }
        let mut not_calls = page.counter(
            "rpc_server_not_calls_total",
            "Requests that were refused because they are no gRPC calls, by why not.",
        );
        for (code, count) in self.not_calls.get() {
            not_calls.sample(&[("code", code)], count);
        }
        authorization.metrics(page);
        mtls::metrics(&[trust], page);
        let mut inputs = vec![("tls", trust.input()), ("policy", &self.policy)];
        if authorization.has_shadow() {
            inputs.push(("shadow_policy", &self.shadow_policy));
        }
        Input::metrics(&inputs, page);
        telemetry::log_metrics(page);
        telemetry::process(page);
    }
}
