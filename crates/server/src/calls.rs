//! The layer around every call on the port: request id, trace, span, metrics, deadline, authority, panics. The policy is
//! inside it.
//!
//! Never a rule about who may do what, and never a name of an RPC.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use call::{Contained, Observed, Until};
use futures_util::FutureExt as _;
use futures_util::future::{Either, Map};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use identity::Peer;
use mtls::Authority;
use telemetry::TraceContext;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;
use tracing::{Span, info, info_span};
use uuid::Uuid;

use crate::load::{Place, Places};
use crate::metrics::Metrics;
use crate::refusal::Refusal;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What of a path that is no method of ours is shown.
const MAX_SHOWN_PATH: usize = 128;

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Of a call whose caller sets none.
    pub(crate) default: Duration,
    /// The most that a caller gets.
    pub(crate) max: Duration,
}

/// All calls of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Calls<S> {
    service: S,
    peer: Arc<str>,
    authority: Authority,
    deadlines: Deadlines,
    places: Places,
    metrics: Arc<Metrics>,
}

impl<S> Calls<S> {
    pub(crate) fn new(
        service: S,
        peer: &Peer,
        authority: Authority,
        deadlines: Deadlines,
        places: Places,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            service,
            peer: peer.to_string().into(),
            authority,
            deadlines,
            places,
            metrics,
        }
    }

    /// A place for a call, and how long it may take; or the answer that turns it away.
    fn admit(&self, headers: &HeaderMap) -> Result<(Place, Duration), Status> {
        let timeout = call::timeout(headers)?.unwrap_or(self.deadlines.default);
        let shed = |busy: &Refusal| self.metrics.shed.add(busy.reason());
        let place = self.places.take().inspect_err(shed)?;
        Ok((place, timeout.min(self.deadlines.max)))
    }

    fn span(&self, request: &Request<Body>, trace: &TraceContext, id: &HeaderValue) -> Span {
        let path = request.uri().path();
        let method = self.metrics.calls.name(path);
        // What the caller made up: in a field of its own, and not without end.
        let shown = path.get(..path.floor_char_boundary(MAX_SHOWN_PATH));
        let original = shown.filter(|_| !path.ends_with(method));
        info_span!(
            "rpc",
            rpc.method = method,
            rpc.method_original = original,
            peer.identity = &*self.peer,
            request_id = id.to_str().unwrap_or_default(),
            trace_id = %trace.trace_id(),
            span_id = %trace.span_id(),
        )
    }
}

/// Tells the numbers and the log how a call ended that begins now.
fn begin(metrics: Arc<Metrics>, path: String, place: Option<Place>) -> impl FnOnce(Code) + Send {
    let began = Instant::now();
    metrics.calls.began();
    move |code| {
        drop(place);
        let took = began.elapsed();
        metrics.calls.ended(&path, code, took);
        info!(
            rpc.status_code = telemetry::code_name(code),
            duration_ms = took.as_secs_f64() * 1e3,
            "call finished"
        );
    }
}

type Answer = Result<Response<Body>, Infallible>;
type Echo = Box<dyn FnOnce(Answer) -> Answer + Send>;
type Guarded<F> = Contained<Until<Either<F, Ready<Answer>>>>;

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<Observed<Guarded<S::Future>>, Echo>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = request_id(&mut request);
        let trace = trace(&request);
        let span = self.span(&request, &trace, &id);
        request.extensions_mut().insert(trace);
        let path = request.uri().path().to_owned();
        let (place, limit, answer) = match self.admit(request.headers()) {
            Ok((place, limit)) => {
                let answer = span.in_scope(|| self.service.call(request));
                (Some(place), limit, Either::Left(answer))
            }
            Err(status) => {
                let answer = Either::Right(ready(Ok(status.into_http())));
                (None, self.deadlines.max, answer)
            }
        };
        let ended = begin(self.metrics.clone(), path, place);
        let authority = self.authority.clone();
        let end = async move {
            tokio::select! {
                refusal = authority.lost() => authority_lost(&refusal),
                () = sleep(limit) => Status::deadline_exceeded("the call took longer than its deadline allows"),
            }
        };
        let call = call::contain(call::until(answer, end));
        let echo: Echo = Box::new(move |answer| {
            answer.map(|mut response| {
                response.headers_mut().insert(REQUEST_ID, id);
                response
            })
        });
        call::observed(call, span, ended).map(echo)
    }
}

fn authority_lost(refusal: &mtls::Refusal) -> Status {
    let details = ErrorDetails::with_error_info(refusal.code(), mtls::ERROR_DOMAIN, []);
    let text = format!("the connection lost its authority: {refusal}");
    Status::with_error_details(Code::Unauthenticated, text, details)
}

/// The caller's own id if it is a UUID, else a new one; from here on it is in the request in any case.
fn request_id(request: &mut Request<Body>) -> HeaderValue {
    let given = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok());
    let id = given.unwrap_or_else(Uuid::now_v7).to_string();
    // A hyphenated UUID is visible ASCII.
    let id = HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("unknown"));
    request.headers_mut().insert(REQUEST_ID, id.clone());
    id
}

/// A span of ours, in the trace that the caller names if it names one well.
fn trace(request: &Request<Body>) -> TraceContext {
    match TraceContext::from_headers(request.headers()) {
        Ok(Some(caller)) => caller.child(caller.is_sampled()),
        Ok(None) | Err(_) => TraceContext::root(false),
    }
}
