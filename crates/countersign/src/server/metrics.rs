//! The metrics of the service, its transport and its policy, and the page that exposes them.

use std::sync::Arc;

use authz::{Api, Authorization};
use base::metrics::CountBy;
use base::reload::{self, Input};
use mtls::Trust;
use prometheus_client::registry::Registry;
use telemetry::{CallLines, Observer, Traces};

/// The counts of the service since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Every call on the port.
    pub(crate) calls: Observer,
    /// Calls that a limit refused, by the limit.
    pub(crate) shed: CountBy,
    /// Requests that were not gRPC calls, by reason.
    pub(crate) not_calls: CountBy,
    /// The results of reading the policy.
    pub(crate) policy: Arc<Input>,
    /// The results of reading the shadow policy.
    pub(crate) shadow_policy: Arc<Input>,
}

impl Metrics {
    /// Zero counts for the methods of `api`. `lines` selects the calls that are logged.
    pub(crate) fn new(api: &Api, traces: Traces, lines: CallLines) -> Self {
        Self {
            calls: Observer::of_server(api.paths().map(str::to_owned), traces, lines),
            shed: CountBy::default(),
            not_calls: CountBy::default(),
            policy: Arc::default(),
            shadow_policy: Arc::default(),
        }
    }

    /// Everything on `/metrics`.
    pub(crate) fn registry(self: &Arc<Self>, trust: &Trust, policy: &Authorization) -> Registry {
        let mut registry = Registry::default();
        self.calls.register(&mut registry);
        let metrics = self.clone();
        base::metrics::register(&mut registry, move |families| {
            families.counter(
                "rpc_server_shed",
                "Calls that a limit refused, by the limit.",
                metrics.shed.samples("reason"),
            )?;
            families.counter(
                "rpc_server_not_calls",
                "Requests that were refused because they are not gRPC calls, by reason.",
                metrics.not_calls.samples("code"),
            )
        });
        policy.register(&mut registry);
        mtls::register(vec![trust.clone()], &mut registry);
        let mut inputs = vec![("tls", trust.input()), ("policy", self.policy.clone())];
        if policy.has_shadow() {
            inputs.push(("shadow_policy", self.shadow_policy.clone()));
        }
        reload::register(inputs, &mut registry);
        telemetry::register_log(&mut registry);
        telemetry::register_process(&mut registry);
        registry
    }
}
