//! Exports spans to a collector: by OTLP over HTTP (protobuf), configured by the `OTEL_*` variables, or through a
//! function that takes the same encoded requests to it.
//!
//! The queue, the sampler, the resource and the protocol are those of the OpenTelemetry SDK. This file adds that an
//! unsupported setting is an error at the start, and that a collector that does not answer is logged once.

use std::env;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::calls::Side;
use crate::events;
use crate::invalid::InvalidTracing;
use crate::trace::TraceContext;
use crate::unsampled::{SpanQueue, UnsampledCall, UnsampledSpans};

const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// How long the last spans may take to be sent when the program ends.
const FLUSH: Duration = Duration::from_secs(2);
/// How long one request to the collector may take, unless a variable says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The instrumentation scope of this library's spans.
const SCOPE: &str = "countersign";

/// Sends an encoded `ExportTraceServiceRequest` to a collector, and returns its response or the error.
pub type Collector = Arc<dyn Fn(Bytes) -> Answered + Send + Sync>;

type Answered = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// The exporter.
#[derive(Debug)]
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    unsampled: Arc<UnsampledSpans>,
    counts: Arc<ExportCounts>,
}

#[derive(Debug, Default)]
struct ExportCounts {
    recorded: Counter,
    exported: AtomicU64,
    failed: AtomicU64,
    failing: AtomicBool,
}

impl Exporter {
    /// Configured by the variables; `None` if they name no collector.
    pub(crate) fn from_env(service: &'static str) -> Result<Option<Self>, InvalidTracing> {
        let Some((variable, endpoint)) = first(&ENDPOINTS) else {
            return Ok(None);
        };
        if is_off() {
            return Ok(None);
        }
        check(variable, &endpoint)?;
        check_rest("http/protobuf", "usually on port 4318")?;
        let client = HyperClient::with_default_connector(timeout(), None);
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime::new(move |request| {
                let client = client.clone();
                async move { client.send_bytes(request).await }
            }))
            .with_timeout(timeout())
            .build();
        Self::new(service, variable, endpoint, exporter).map(Some)
    }

    /// Exports through `collector`; `None` if a variable turns spans off.
    pub(crate) fn to(
        service: &'static str,
        endpoint: String,
        collector: Collector,
    ) -> Result<Option<Self>, InvalidTracing> {
        if is_off() {
            return Ok(None);
        }
        for (variables, reason) in [
            (
                ENDPOINTS,
                "--otlp-endpoint names the collector: give one of them",
            ),
            (
                HEADERS,
                "a collector that is called by mutual TLS knows us by our certificate: unset it",
            ),
        ] {
            if let Some((variable, value)) = first(&variables) {
                // Headers are secrets.
                let value = if variables == HEADERS {
                    "…".to_owned()
                } else {
                    value
                };
                return refuse(variable, &value, reason);
            }
        }
        check_rest("grpc", "which --otlp-endpoint speaks")?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime::new(move |request| {
                let answered = collector(request.into_body());
                async { Ok(Response::new(answered.await?)) }
            }))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint("http://collector/v1/traces") // nobody dials it
            .with_timeout(timeout())
            .build();
        Self::new(service, "--otlp-endpoint", endpoint, exporter).map(Some)
    }

    fn new(
        service: &'static str,
        variable: &'static str,
        endpoint: String,
        exporter: Result<opentelemetry_otlp::SpanExporter, ExporterBuildError>,
    ) -> Result<Self, InvalidTracing> {
        let exporter = exporter.map_err(|error| InvalidTracing {
            variable,
            value: endpoint.clone(),
            reason: format!("no exporter can be made of it: {error}"),
        })?;
        let counts = Arc::<ExportCounts>::default();
        let named = first(&["OTEL_SERVICE_NAME"]).is_some();
        let resource = Resource::builder();
        let resource = if named {
            resource
        } else {
            resource.with_service_name(service)
        };
        info!(endpoint, "{}", events::SPANS_EXPORTED);
        let resource = resource.build();
        let mut processor = BatchSpanProcessor::builder(Reporting {
            exporter,
            endpoint,
            counts: counts.clone(),
        })
        .build();
        processor.set_resource(&resource);
        let queue = SpanQueue::new(processor);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue.clone())
            .with_resource(resource)
            .build();
        let unsampled = UnsampledSpans::new(SCOPE, queue, counts.recorded.clone());
        Ok(Self {
            tracer: provider.tracer(SCOPE),
            provider,
            unsampled: Arc::new(unsampled),
            counts,
        })
    }

    pub(crate) fn begin(
        &self,
        side: Side,
        method: &str,
        parent: Option<&TraceContext>,
    ) -> (TraceContext, Recording) {
        let kind = match side {
            Side::Server => SpanKind::Server,
            Side::Client => SpanKind::Client,
        };
        let builder = SpanBuilder::from_name(method.to_owned()).with_kind(kind);
        let above = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(SpanContext::new(
                TraceId::from(parent.trace_number()),
                SpanId::from(parent.span_number()),
                TraceFlags::new(u8::from(parent.is_sampled())),
                true,
                TraceState::NONE,
            ))
        });
        let span = self.tracer.build_with_context(builder, &above);
        let ours = span.span_context();
        let context = parent
            .cloned()
            .unwrap_or_else(|| TraceContext::root(false))
            .at(
                u128::from_be_bytes(ours.trace_id().to_bytes()),
                u64::from_be_bytes(ours.span_id().to_bytes()),
                ours.is_sampled(),
            );
        let recording = match parent {
            _ if span.is_recording() => {
                self.counts.recorded.inc();
                Recording::Sampled(span)
            }
            Some(caller) => Recording::Unsampled(UnsampledCall::begin(&self.unsampled, caller)),
            None => Recording::Off,
        };
        (context, recording)
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let (counts, unsampled) = (self.counts.clone(), self.unsampled.clone());
        base::metrics::register(registry, move |families| {
            families.counter(
                "trace_spans",
                "Spans that were recorded, exported or failed; the others are queued, or found the queue full. Left out are failed calls whose callers asked for no span, beyond their quota.",
                [
                    ([("result", "recorded")], counts.recorded.get()),
                    ([("result", "exported")], counts.exported.load(Ordering::Relaxed)),
                    ([("result", "failed")], counts.failed.load(Ordering::Relaxed)),
                    ([("result", "left_out")], unsampled.left_out()),
                ],
            )
        });
    }

    pub(crate) fn shut_down(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            warn!(reason = %error, "{}", events::LAST_SPANS_LOST);
        }
    }
}

/// What happens to the span of an open call.
#[expect(
    clippy::large_enum_variant,
    reason = "most calls have the large one, and each would cost an allocation"
)]
pub(crate) enum Recording {
    /// It is exported when it ends.
    Sampled(Span),
    /// It is exported if the call fails.
    Unsampled(UnsampledCall),
    /// The sampler dropped it.
    Off,
}

/// Records in a span how its call ended.
pub(crate) fn describe<const N: usize>(
    span: &mut Span,
    error: Option<&'static str>,
    attributes: impl FnOnce() -> [(&'static str, String); N],
) {
    for (name, value) in attributes() {
        span.set_attribute(KeyValue::new(name, value));
    }
    if let Some(error) = error {
        span.set_attribute(KeyValue::new("error.type", error));
        span.set_status(Status::error(error));
    }
}

/// The first of these variables that is set to something, with its value.
fn first(variables: &[&'static str]) -> Option<(&'static str, String)> {
    variables.iter().find_map(|variable| {
        let value = env::var(variable).ok().filter(|value| !value.is_empty())?;
        Some((*variable, value))
    })
}

/// Whether a variable turns spans off.
fn is_off() -> bool {
    let disabled = first(&["OTEL_SDK_DISABLED"]);
    disabled.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"))
        || first(&["OTEL_TRACES_EXPORTER"]).is_some_and(|(_, value)| value == "none")
}

fn refuse<T>(variable: &'static str, value: &str, reason: &str) -> Result<T, InvalidTracing> {
    Err(InvalidTracing {
        variable,
        value: value.to_owned(),
        reason: reason.to_owned(),
    })
}

/// Refuses an address that the SDK would ignore or find out too late.
fn check(variable: &'static str, endpoint: &str) -> Result<(), InvalidTracing> {
    if endpoint.contains('@') {
        // Not shown: userinfo is a secret, and the address is logged from here on.
        return refuse(
            variable,
            "…@…",
            "a user in the address is not sent: give it without",
        );
    }
    if !endpoint.starts_with("http://") {
        return refuse(
            variable,
            endpoint,
            "spans are sent there without TLS: give the http:// address of a collector on this host or in this pod, or one that is called by mutual TLS as --otlp-endpoint",
        );
    }
    Ok(())
}

/// The same for all settings except the address.
fn check_rest(protocol: &str, note: &str) -> Result<(), InvalidTracing> {
    if let Some((variable, value)) = first(&["OTEL_TRACES_EXPORTER"]).filter(|(_, it)| it != "otlp")
    {
        return refuse(variable, &value, "the exporters are otlp and none");
    }
    if let Some((variable, value)) = first(&PROTOCOLS).filter(|(_, value)| value != protocol) {
        return refuse(
            variable,
            &value,
            &format!("the protocol is {protocol}, {note}"),
        );
    }
    let Some((variable, sampler)) = first(&["OTEL_TRACES_SAMPLER"]) else {
        return Ok(());
    };
    if !SAMPLERS.contains(&sampler.as_str()) {
        return refuse(
            variable,
            &sampler,
            &format!("the samplers are {}", SAMPLERS.join(", ")),
        );
    }
    if sampler.ends_with("traceidratio") {
        let (variable, ratio) = first(&["OTEL_TRACES_SAMPLER_ARG"])
            .unwrap_or(("OTEL_TRACES_SAMPLER_ARG", String::new()));
        if !ratio
            .parse()
            .is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio))
        {
            return refuse(variable, &ratio, "the sampler needs a share from 0 to 1");
        }
    }
    Ok(())
}

fn timeout() -> Duration {
    let variables = [
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    ];
    let millis = first(&variables).and_then(|(_, millis)| millis.parse().ok());
    millis.map_or(TIMEOUT, Duration::from_millis)
}

/// What sends a request to the collector, on our runtime: the SDK's thread has none.
struct OnRuntime {
    send: Box<dyn Fn(Request<Bytes>) -> Sent + Send + Sync>,
    runtime: Handle,
}

type Sent = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send>>;

impl OnRuntime {
    fn new<F>(send: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'static,
    {
        Self {
            send: Box::new(move |request| Box::pin(send(request))),
            runtime: Handle::current(),
        }
    }
}

impl fmt::Debug for OnRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRuntime").finish_non_exhaustive()
    }
}

impl HttpClient for OnRuntime {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.runtime.spawn((self.send)(request));
        Box::pin(async { sent.await? })
    }
}

/// Counts the results of exports, and logs when the collector is lost and when it is available again.
#[derive(Debug)]
struct Reporting {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    counts: Arc<ExportCounts>,
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let size = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let exported = self.exporter.export(batch).await;
        let ExportCounts {
            exported: taken,
            failed,
            failing,
            recorded: _,
        } = &*self.counts;
        let was_failing = failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Ok(()) => {
                taken.fetch_add(size, Ordering::Relaxed);
                if was_failing {
                    info!(endpoint = self.endpoint, "{}", events::COLLECTOR_AVAILABLE);
                }
            }
            Err(error) => {
                failed.fetch_add(size, Ordering::Relaxed);
                if !was_failing {
                    warn!(endpoint = self.endpoint, reason = %error, "{}", events::COLLECTOR_UNAVAILABLE);
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
