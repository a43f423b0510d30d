//! The calls of one side as operators see them: a span around each, a number and a line at its end, and its place in a
//! trace.
//!
//! Never a rule about a call, never a value from its metadata but the two ids.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::registry::Registry;
use tonic::Code;
use tracing::{Span, debug, error_span, info};
use uuid::Uuid;

use crate::calls::{Calls, Side};
use crate::code::code_name;
use crate::trace::TraceContext;
use crate::traces::Traces;

/// What of a path that is no method of ours is shown.
const MAX_SHOWN_PATH: usize = 128;

/// The target of the one line for each call, so that it can be left out alone.
const TARGET: &str = "calls";

/// By which caller and server name one call to each other.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Sees every call of one side. Clones share what they count.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    side: Side,
    calls: Calls,
    traces: Traces,
}

/// What is known of a call when it begins.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// `/package.Service/Method`, or what the caller made up.
    pub path: &'a str,
    /// Who is at the other end: the caller's verified name, or the server's address.
    pub other: &'a str,
    /// The id of the request.
    pub request_id: &'a RequestId,
    /// The span that the call is under.
    pub parent: Option<&'a TraceContext>,
}

impl Observer {
    /// Of the calls of these methods, by their paths, `/package.Service/Method`. Others count as one.
    pub fn new(side: Side, paths: impl IntoIterator<Item = String>, traces: Traces) -> Self {
        Self(Arc::new(Inner {
            side,
            calls: Calls::new(side, paths),
            traces,
        }))
    }

    /// A call begins: what it runs in, its place in a trace, and what to tell how it ended.
    pub fn begin(
        &self,
        facts: CallFacts<'_>,
    ) -> (Span, TraceContext, impl FnOnce(Code) + Send + 'static) {
        let began = Instant::now();
        let Self(inner) = self.clone();
        let side = inner.side;
        let path = facts.path.to_owned();
        let method = inner.calls.name(&path).to_owned();
        // What the caller made up: in a field of its own, and not without end.
        let shown = path.get(..path.floor_char_boundary(MAX_SHOWN_PATH));
        let original = shown
            .filter(|_| !path.ends_with(&method))
            .map(str::to_owned);
        let recorded = inner.traces.begin(side, &method, facts.parent);
        let context = recorded.context().clone();
        let other = facts.other.to_owned();
        let request_id = facts.request_id.clone();
        // Of the highest level, so that it is around every line that is written, whatever RUST_LOG leaves out.
        let span = error_span!(
            target: TARGET,
            "rpc",
            rpc.method = method,
            rpc.method_original = original,
            peer.identity = (side == Side::Server).then_some(&*other),
            server.address = (side == Side::Client).then_some(&*other),
            request_id = request_id.as_str(),
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
                    info!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "call finished");
                }
                // Whoever makes the call knows how it ended.
                Side::Client => {
                    debug!(target: TARGET, { rpc.status_code = code_name, duration_ms }, "call finished");
                }
            }
            recorded.end(side.error(code), || {
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
                    ("request_id", request_id.as_str().to_owned()),
                ]
            });
        };
        (span, context, ended)
    }

    /// Registers the families of calls and spans.
    pub fn register(&self, registry: &mut Registry) {
        let Self(inner) = self.clone();
        base::metrics::register(registry, move |families| inner.calls.metrics(families));
        self.0.traces.register(registry);
    }
}

/// The id of a request: a UUID, so that nothing else gets into a log by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new one, of version 7: they sort by time.
    pub fn random() -> Self {
        Self::of(Uuid::now_v7())
    }

    /// The one that the caller gave, if that is a UUID, else a new one.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let given = headers
            .get(&REQUEST_ID)
            .and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok());
        given.map_or_else(Self::random, Self::of)
    }

    /// As a header has it.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn of(id: Uuid) -> Self {
        // A hyphenated UUID is visible ASCII.
        Self(HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("unknown")))
    }
}
