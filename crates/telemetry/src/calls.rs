//! How long calls took, by method and code, under the names of OpenTelemetry's RPC conventions.
//!
//! The methods are given at the start. All other paths count as one method, so that a caller cannot add a series.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::metrics::Families;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tonic::Code;

use crate::code::code_name;

/// The label of every unknown method.
const OTHER: &str = "_OTHER";

/// Our side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server.
    Server,
    /// The client.
    Client,
}

impl Side {
    /// The name of a code that is an error on this side: a server is at fault for some, a client's call failed by any.
    pub fn error(self, code: Code) -> Option<&'static str> {
        let is_error = match (self, code) {
            (_, Code::Ok) => false,
            (Self::Client, _) => true,
            (
                Self::Server,
                Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss,
            ) => true,
            (Self::Server, _) => false,
        };
        is_error.then(|| code_name(code))
    }
}

/// The upper bounds of the buckets in seconds, as OpenTelemetry advises for the duration of an RPC.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The calls of one side, since the start.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    side: Side,
    /// The index of each path (`/package.Service/Method`) among `methods`.
    places: HashMap<String, usize>,
    methods: Vec<NamedMethod>,
    other: NamedMethod,
    times: Family<CallLabels, Histogram, fn() -> Histogram>,
    open: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc_system_name: &'static str,
    rpc_method: Arc<str>,
    rpc_status_code: &'static str,
}

/// A method, and its distributions by the number of their code, each found once.
#[derive(Debug)]
struct NamedMethod {
    name: Arc<str>,
    times: [OnceLock<Histogram>; CODES],
}

/// How many codes there are.
const CODES: usize = 17;

impl NamedMethod {
    fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            times: Default::default(),
        }
    }
}

impl CallMetrics {
    /// No call yet, for methods with these paths: `/package.Service/Method`.
    pub(crate) fn new(side: Side, paths: impl IntoIterator<Item = String>) -> Self {
        let paths: Vec<String> = paths.into_iter().collect();
        let method = |path: &String| NamedMethod::named(path.trim_start_matches('/'));
        Self {
            side,
            methods: paths.iter().map(method).collect(),
            places: paths.into_iter().zip(0..).collect(),
            other: NamedMethod::named(OTHER),
            times: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            open: Gauge::default(),
        }
    }

    /// The index of a method among the given paths, or `None` if it is not one of them.
    pub(crate) fn place(&self, path: &str) -> Option<usize> {
        self.places.get(path).copied()
    }

    /// The name of the method with this index: its path without the leading slash, or `_OTHER`.
    pub(crate) fn name(&self, place: Option<usize>) -> Arc<str> {
        self.method(place).name.clone()
    }

    fn method(&self, place: Option<usize>) -> &NamedMethod {
        let known = place.and_then(|place| self.methods.get(place));
        known.unwrap_or(&self.other)
    }

    /// A call began.
    pub(crate) fn began(&self) {
        self.open.inc();
    }

    /// A call of the method with this index ended.
    pub(crate) fn ended(&self, place: Option<usize>, code: Code, took: Duration) {
        self.open.dec();
        let method = self.method(place);
        let number = usize::try_from(i32::from(code)).unwrap_or_default();
        let Some(times) = method.times.get(number) else {
            return;
        };
        let times = times.get_or_init(|| {
            let labels = CallLabels {
                rpc_system_name: "grpc",
                rpc_method: method.name.clone(),
                rpc_status_code: code_name(code),
            };
            self.times.get_or_create(&labels).clone()
        });
        times.observe(took.as_secs_f64());
    }

    /// Writes the families of this side.
    pub(crate) fn metrics(&self, families: &mut Families<'_>) -> fmt::Result {
        let (duration, open) = match self.side {
            Side::Server => ("rpc_server_call_duration_seconds", "rpc_server_open_calls"),
            Side::Client => ("rpc_client_call_duration_seconds", "rpc_client_open_calls"),
        };
        families.metric(open, "Open calls.", &self.open)?;
        families.metric(
            duration,
            "The duration of calls, from the first byte to the status.",
            &self.times,
        )
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(calls: CallMetrics) -> String {
        let mut registry = Registry::default();
        base::metrics::register(&mut registry, move |families| calls.metrics(families));
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn a_thousand_unknown_paths_are_one_series() {
        let calls = CallMetrics::new(Side::Server, ["/a.B/C".to_owned()]);
        for n in 0..1000 {
            calls.began();
            let place = calls.place(&format!("/x.Y/{n}"));
            calls.ended(place, Code::Unimplemented, Duration::ZERO);
        }
        let text = text(calls);
        let series: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("rpc_server_call_duration_seconds_count"))
            .collect();
        assert_eq!(
            series,
            [
                r#"rpc_server_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="_OTHER",rpc_status_code="UNIMPLEMENTED"} 1000"#
            ]
        );
        assert!(text.contains("rpc_server_open_calls 0\n"), "{text}");
    }

    #[test]
    fn a_call_counts_under_its_method_and_code() {
        let calls = CallMetrics::new(Side::Client, ["/a.B/C".to_owned()]);
        calls.began();
        calls.began();
        let place = calls.place("/a.B/C");
        calls.ended(place, Code::PermissionDenied, Duration::from_millis(7));
        assert_eq!(&*calls.name(place), "a.B/C");
        assert_eq!(&*calls.name(calls.place("/a.B/D")), "_OTHER");
        let text = text(calls);
        assert!(
            text.contains(
                r#"rpc_client_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="a.B/C",rpc_status_code="PERMISSION_DENIED"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("rpc_client_open_calls 1\n"), "{text}");
        for bucket in [
            r#"le="0.005"} 0"#,
            r#"le="0.01"} 1"#,
            r#"le="10"} 1"#,
            r#"le="+Inf"} 1"#,
        ] {
            assert!(text.contains(bucket), "{bucket}\n{text}");
        }
    }
}
