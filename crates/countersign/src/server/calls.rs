//! The layer around every call on the port: what is no gRPC call is refused; request id, trace, span, metrics, deadline, authority, panics. The policy is
//! inside it.
//!
//! Never a rule about who may do what, and never a name of an RPC.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use authz::Api;
use base::call::{self, Contained, NotACall, Observed, Until};
use futures_util::FutureExt as _;
use futures_util::future::{Either, Map};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use identity::Peer;
use mtls::Authority;
use telemetry::{CallFacts, REQUEST_ID, RequestId, TraceContext};
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;
use tracing::warn;

use crate::server::exceeded::{DRAINING, ERROR_DOMAIN, Exceeded};
use crate::server::first_message;
use crate::server::load::{Place, Places};
use crate::server::metrics::Metrics;

/// What a header counts beside its name and its value (RFC 9113 §6.5.2).
const HEADER_OVERHEAD: usize = 32;

/// What of a value that a caller made up is shown.
const MAX_SHOWN: usize = 128;

/// Within this, once a drain begins, streams end that only the server can end: not all at once, so that their callers do
/// not come to the other servers all at once.
const DRAIN_SPREAD: Duration = Duration::from_secs(1);

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Of a call whose caller sets none.
    pub(crate) default: Duration,
    /// The most that a caller gets.
    pub(crate) max: Duration,
    /// Of the first message of every call.
    pub(crate) first_message: Duration,
}

/// What one request may hold, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// What can be called, and with how many messages.
    pub(crate) api: Arc<Api>,
    /// Bytes of one message.
    pub(crate) message_bytes: usize,
    /// Bytes of the metadata, as RFC 9113 §6.5.2 counts them.
    pub(crate) metadata_bytes: usize,
    /// True once streams that only the server can end are to end.
    pub(crate) draining: watch::Receiver<bool>,
}

/// All calls of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Calls<S> {
    service: S,
    peer: Arc<str>,
    authority: Authority,
    deadlines: Deadlines,
    bounds: Bounds,
    places: Places,
    metrics: Arc<Metrics>,
}

impl<S> Calls<S> {
    pub(crate) fn new(
        service: S,
        peer: &Peer,
        authority: Authority,
        deadlines: Deadlines,
        bounds: Bounds,
        places: Places,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            service,
            peer: peer.to_string().into(),
            authority,
            deadlines,
            bounds,
            places,
            metrics,
        }
    }

    /// A place for a call, and how long it may take; or the answer that turns it away.
    fn admit(&self, headers: &HeaderMap) -> Result<(Place, Duration), Status> {
        let shed = |exceeded: &Exceeded| self.metrics.shed.add(exceeded.reason());
        let max_bytes = self.bounds.metadata_bytes;
        if metadata_bytes(headers) > max_bytes {
            let exceeded = Exceeded::MetadataTooLarge { max_bytes };
            shed(&exceeded);
            return Err(exceeded.into());
        }
        let timeout = call::timeout(headers)?.unwrap_or(self.deadlines.default);
        let place = self.places.take().inspect_err(shed)?;
        Ok((place, timeout.min(self.deadlines.max)))
    }

    /// The answer to what is no gRPC call. Neither the policy nor a handler sees it.
    fn refuse(&self, request: &Request<Body>, no_call: NotACall) -> Response<Body> {
        self.metrics.not_calls.add(no_call.code());
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()));
        warn!(
            peer.identity = &*self.peer,
            code = no_call.code(),
            reason = %no_call,
            http.request.method = shown(request.method().as_str()),
            http.request.header.content_type = content_type.as_deref().map(shown),
            "request refused: it is no gRPC call"
        );
        no_call.response()
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
    type Future = Either<Map<Observed<Guarded<S::Future>>, Echo>, Ready<Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(no_call) = call::is_call(&request) {
            return Either::Right(ready(Ok(self.refuse(&request, no_call))));
        }
        let id = RequestId::from_headers(request.headers());
        request.headers_mut().insert(REQUEST_ID, id.value());
        // A malformed context is none: the call begins a trace of its own.
        let caller = TraceContext::from_headers(request.headers()).unwrap_or_default();
        let (span, trace, ended) = self.metrics.calls.begin(CallFacts {
            path: request.uri().path(),
            other: &self.peer,
            request_id: &id,
            parent: caller.as_ref(),
        });
        // For the calls that a handler makes in turn.
        request.extensions_mut().insert(trace);
        let is_feed = self.bounds.api.is_feed(request.uri().path());
        let (head, body) = request.into_parts();
        let (body, late) = first_message::within(self.deadlines.first_message, body);
        let request = Request::from_parts(head, body);
        let (place, limit, answer) = match self.admit(request.headers()) {
            Ok((place, limit)) => {
                let Bounds {
                    api, message_bytes, ..
                } = &self.bounds;
                let one = api.takes_one_message(request.uri().path());
                let request = request.map(|body| call::messages(body, *message_bytes, one));
                let answer = span.in_scope(|| self.service.call(request));
                (Some(place), limit, Either::Left(answer))
            }
            Err(status) => {
                let answer = Either::Right(ready(Ok(status.into_http())));
                (None, self.deadlines.max, answer)
            }
        };
        let ended = move |code| {
            drop(place);
            ended(code);
        };
        let authority = self.authority.clone();
        let drained = drained(self.bounds.draining.clone());
        let end = async move {
            tokio::select! {
                refusal = authority.lost() => authority_lost(&refusal),
                status = late => status,
                status = drained, if is_feed => status,
                () = sleep(limit) => Status::deadline_exceeded("the call took longer than its deadline allows"),
            }
        };
        let call = call::contain(call::until(answer, end));
        let echo: Echo = Box::new(move |answer| {
            answer.map(|mut response| {
                response.headers_mut().insert(REQUEST_ID, id.value());
                response
            })
        });
        Either::Left(call::observed(call, span, ended).map(echo))
    }
}

/// Ends a stream some time after the drain has begun.
async fn drained(mut draining: watch::Receiver<bool>) -> Status {
    if draining.wait_for(|draining| *draining).await.is_err() {
        // Nobody will begin a drain any more.
        std::future::pending::<()>().await;
    }
    sleep(DRAIN_SPREAD.mul_f64(fastrand::f64())).await;
    let details = ErrorDetails::with_error_info(DRAINING, ERROR_DOMAIN, []);
    let text = "the server is stopping; call again, and another one answers";
    Status::with_error_details(Code::Unavailable, text, details)
}

fn metadata_bytes(headers: &HeaderMap) -> usize {
    let each = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD);
    each.sum()
}

/// The beginning of what a caller chose.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_SHOWN))
        .unwrap_or_default()
}

fn authority_lost(refusal: &mtls::Refusal) -> Status {
    let details = ErrorDetails::with_error_info(refusal.code(), mtls::ERROR_DOMAIN, []);
    let text = format!("the connection lost its authority: {refusal}");
    Status::with_error_details(Code::Unauthenticated, text, details)
}
