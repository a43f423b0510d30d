//! Observes the calls of one side: metrics, log lines and spans.
//!
//! Of a call's metadata it records only the request id and the trace id.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::registry::Registry;
use tonic::Code;
use tracing::{Span, debug, error_span, info};

use crate::calls::{CallMetrics, Side, named};
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

/// What is known of a call when it begins.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// `/package.Service/Method`, or any other path that the caller chose.
    pub path: &'a str,
    /// Who is at the other end: the caller's verified name, or the server's address.
    pub other: &'a str,
    /// The id of the request.
    pub request_id: &'a RequestId,
    /// The parent span.
    pub parent: Option<&'a TraceContext>,
}

impl Observer {
    /// An observer of calls of these methods, given by their paths, `/package.Service/Method`. All others count as one.
    pub fn new(side: Side, paths: impl IntoIterator<Item = String>, traces: Traces) -> Self {
        Self(Arc::new(Inner {
            side,
            calls: CallMetrics::new(side, paths),
            traces,
            lines: CallLines::All,
        }))
    }

    /// An observer of the calls that this server answers, by the paths of its methods. `lines` selects the calls that
    /// are logged.
    pub fn of_server(
        paths: impl IntoIterator<Item = String>,
        traces: Traces,
        lines: CallLines,
    ) -> Self {
        let side = Side::Server;
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
        let method = named(path, place);
        let recorded = inner.traces.begin(inner.side, method, parent);
        inner.calls.began();
        // The caller chose this path: it goes to a field of its own, truncated.
        let original = match place {
            Some(_) => None,
            None => path.get(..path.floor_char_boundary(MAX_SHOWN_PATH)),
        };
        let call = ServerCall {
            place,
            name: place.and_then(|place| inner.calls.name_at(place)),
            original: original.map(Into::into),
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
        inner.calls.ended_at(call.place, code, took);
        let code_name = code_name(code);
        if inner.lines.has(code) {
            let duration_ms = took.as_secs_f64() * 1e3;
            info!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "{}", events::CALL_FINISHED);
        }
        let failed = (code != Code::Ok).then_some(FailedCall {
            method: call.method(),
            peer: call.peer(),
        });
        recorded.end(inner.side.error(code), failed, || {
            [
                ("rpc.system.name", "grpc".to_owned()),
                ("rpc.method", call.method().to_owned()),
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

    /// A call begins. Returns the span to run it in, its trace context, and the handle that records its end.
    pub fn begin(
        &self,
        facts: CallFacts<'_>,
    ) -> (Span, TraceContext, impl FnOnce(Code) + Send + 'static) {
        let began = Instant::now();
        let Self(inner) = self.clone();
        let side = inner.side;
        let path = facts.path.to_owned();
        let method = inner.calls.name(&path).to_owned();
        // The caller chose this path: it goes to a field of its own, truncated.
        let shown = path.get(..path.floor_char_boundary(MAX_SHOWN_PATH));
        let original = shown
            .filter(|_| !path.ends_with(&method))
            .map(str::to_owned);
        let recorded = inner.traces.begin(side, &method, facts.parent);
        let context = recorded.context().clone();
        let other = facts.other.to_owned();
        let request_id = *facts.request_id;
        // At the highest level, so that it is part of every line, whatever RUST_LOG filters.
        let span = error_span!(
            target: TARGET,
            "rpc",
            rpc.method = method,
            rpc.method_original = original,
            peer.identity = (side == Side::Server).then_some(&*other),
            server.address = (side == Side::Client).then_some(&*other),
            request_id = %request_id,
            trace_id = %context.trace_id(),
            span_id = %context.span_id(),
        );
        inner.calls.began();
        let ended = move |code| {
            let took = began.elapsed();
            inner.calls.ended(&path, code, took);
            let code_name = code_name(code);
            let duration_ms = took.as_secs_f64() * 1e3;
            match side {
                Side::Server => {
                    info!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "{}", events::CALL_FINISHED);
                }
                // The caller logs how the call ended.
                Side::Client => {
                    debug!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "{}", events::CALL_FINISHED);
                }
            }
            // A caller decides about its own spans.
            recorded.end(side.error(code), None, || {
                let other_name = match side {
                    Side::Server => "peer.identity",
                    Side::Client => "server.address",
                };
                [
                    ("rpc.system.name", "grpc".to_owned()),
                    ("rpc.method", method),
                    ("rpc.method_original", original.unwrap_or_default()),
                    ("rpc.status_code", code_name.to_owned()),
                    (other_name, other),
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
