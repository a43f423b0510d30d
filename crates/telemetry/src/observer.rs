//! Observes the calls of one side: metrics, log lines and spans.
//!
//! Of a call's metadata it records only the request id and the trace id.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::registry::Registry;
use tonic::Code;
use tracing::{Span, debug, error_span, info};

use crate::calls::{CallMetrics, Side};
use crate::code::code_name;
use crate::events;
use crate::request_id::RequestId;
use crate::server_call::{CallLines, ServerCall};
use crate::trace::TraceContext;
use crate::traces::{CallSpan, FailedCall, Traces};

/// How much of an unknown path is shown.
const MAX_SHOWN_PATH: usize = 128;

/// The target of the line for each call, so that it can be filtered separately.
const TARGET: &str = "calls";

/// Observes every call of one side. Clones share their counts.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    side: Side,
    calls: CallMetrics,
    traces: Traces,
    lines: CallLines,
}

/// What is known of a call that this client makes, when it begins.
#[derive(Clone, Copy, Debug)]
pub struct ClientCall<'a> {
    /// `/package.Service/Method`.
    pub path: &'a str,
    /// The address of the server.
    pub server: &'a Arc<str>,
    /// The id of the request.
    pub request_id: &'a RequestId,
    /// The parent span.
    pub parent: Option<&'a TraceContext>,
}

impl Observer {
    /// An observer of the calls that this client makes, by the paths of the methods, `/package.Service/Method`. All
    /// others count as one.
    pub fn of_client(paths: impl IntoIterator<Item = String>, traces: Traces) -> Self {
        Self::new(Side::Client, paths, traces, CallLines::Off)
    }

    /// An observer of the calls that this server answers. Otherwise like [`Self::of_client`]; `lines` selects the calls
    /// that are logged.
    pub fn of_server(
        paths: impl IntoIterator<Item = String>,
        traces: Traces,
        lines: CallLines,
    ) -> Self {
        Self::new(Side::Server, paths, traces, lines)
    }

    fn new(
        side: Side,
        paths: impl IntoIterator<Item = String>,
        traces: Traces,
        lines: CallLines,
    ) -> Self {
        Self(Arc::new(Inner {
            side,
            calls: CallMetrics::new(side, paths),
            traces,
            lines,
        }))
    }

    /// The index of the method at `path` among the given ones.
    pub fn place(&self, path: &str) -> Option<usize> {
        self.0.calls.place(path)
    }

    /// A call that a server answers begins. Report its end to [`Self::ended`], once.
    pub fn answer(
        &self,
        place: Option<usize>,
        path: &str,
        peer: &Arc<str>,
        request_id: RequestId,
        parent: Option<&TraceContext>,
    ) -> (ServerCall, CallSpan) {
        let Self(inner) = self;
        let method = inner.calls.name(place);
        let recorded = inner.traces.begin(inner.side, &method, parent);
        inner.calls.began();
        let call = ServerCall {
            place,
            method,
            original: shown(path, place),
            peer: peer.clone(),
            request_id,
            context: recorded.context().clone(),
            began: Instant::now(),
        };
        (call, recorded)
    }

    /// Records how a call that a server answered ended. Call this within [`enter`](crate::enter).
    pub fn ended(&self, call: &ServerCall, recorded: CallSpan, code: Code) {
        let Self(inner) = self;
        let took = call.began.elapsed();
        inner.calls.ended(call.place, code, took);
        let code_name = code_name(code);
        if inner.lines.has(code) {
            let duration_ms = took.as_secs_f64() * 1e3;
            info!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "{}", events::CALL_FINISHED);
        }
        let failed = (code != Code::Ok).then_some(FailedCall {
            method: &call.method,
            peer: call.peer(),
        });
        recorded.end(inner.side.error(code), failed, || {
            [
                ("rpc.system.name", "grpc".to_owned()),
                ("rpc.method", call.method.as_ref().to_owned()),
                (
                    "rpc.method_original",
                    call.original.as_deref().unwrap_or_default().to_owned(),
                ),
                ("rpc.status_code", code_name.to_owned()),
                ("peer.identity", call.peer.as_ref().to_owned()),
                ("request_id", call.request_id.to_string()),
            ]
        });
    }

    /// A call that this client makes begins. Returns the span to run it in, its trace context, and the handle that
    /// records its end.
    pub fn begin(
        &self,
        call: ClientCall<'_>,
    ) -> (Span, TraceContext, impl FnOnce(Code) + Send + 'static) {
        let began = Instant::now();
        let Self(inner) = self.clone();
        let ClientCall {
            path,
            server,
            request_id,
            parent,
        } = call;
        let place = inner.calls.place(path);
        let method = inner.calls.name(place);
        let original = shown(path, place);
        let recorded = inner.traces.begin(inner.side, &method, parent);
        let context = recorded.context().clone();
        // At the highest level, so that it is part of every line, whatever RUST_LOG filters.
        let span = error_span!(
            target: TARGET,
            "rpc",
            rpc.method = &*method,
            rpc.method_original = original.as_deref(),
            server.address = &**server,
            request_id = %request_id,
            trace_id = %context.trace_id(),
            span_id = %context.span_id(),
        );
        inner.calls.began();
        let (server, request_id) = (server.clone(), *request_id);
        let ended = move |code| {
            let took = began.elapsed();
            inner.calls.ended(place, code, took);
            let code_name = code_name(code);
            let duration_ms = took.as_secs_f64() * 1e3;
            // The caller logs how the call ended.
            debug!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "{}", events::CALL_FINISHED);
            // A caller decides about its own spans.
            recorded.end(inner.side.error(code), None, || {
                [
                    ("rpc.system.name", "grpc".to_owned()),
                    ("rpc.method", method.as_ref().to_owned()),
                    (
                        "rpc.method_original",
                        original.as_deref().unwrap_or_default().to_owned(),
                    ),
                    ("rpc.status_code", code_name.to_owned()),
                    ("server.address", server.as_ref().to_owned()),
                    ("request_id", request_id.to_string()),
                ]
            });
        };
        (span, context, ended)
    }

    /// Registers the metrics of calls and spans.
    pub fn register(&self, registry: &mut Registry) {
        let Self(inner) = self.clone();
        base::metrics::register(registry, move |families| inner.calls.metrics(families));
        self.0.traces.register(registry);
    }
}

/// An unknown path as it is shown: the caller chose it, so it goes to a field of its own, truncated.
fn shown(path: &str, place: Option<usize>) -> Option<Box<str>> {
    match place {
        Some(_) => None,
        None => path
            .get(..path.floor_char_boundary(MAX_SHOWN_PATH))
            .map(Into::into),
    }
}
