//! The layer around every call on the port: request id, span, deadline, authority, panics. The policy is inside it.
//!
//! Never a rule about who may do what, and never a name of an RPC.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use call::{Contained, Until};
use futures_util::FutureExt as _;
use futures_util::future::{Either, Map};
use http::{HeaderName, HeaderValue, Request, Response};
use identity::Peer;
use mtls::{Authority, Refusal};
use tokio::time::sleep;
use tonic::Status;
use tonic::body::Body;
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Span, info_span};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    peer: Arc<Peer>,
    authority: Authority,
    deadlines: Deadlines,
}

impl<S> Calls<S> {
    pub(crate) fn new(
        service: S,
        peer: Arc<Peer>,
        authority: Authority,
        deadlines: Deadlines,
    ) -> Self {
        Self {
            service,
            peer,
            authority,
            deadlines,
        }
    }
}

type Answer = Result<Response<Body>, Infallible>;
type Echo = Box<dyn FnOnce(Answer) -> Answer + Send>;

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Map<Instrumented<Contained<Until<S::Future>>>, Echo>, Ready<Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let timeout = match call::timeout(request.headers()) {
            Ok(timeout) => timeout
                .unwrap_or(self.deadlines.default)
                .min(self.deadlines.max),
            Err(malformed) => return Either::Right(ready(Ok(Status::from(malformed).into_http()))),
        };
        let id = request_id(&mut request);
        let span = span(&request, &self.peer, &id);
        let authority = self.authority.clone();
        let end = async move {
            tokio::select! {
                refusal = authority.lost() => authority_lost(&refusal),
                () = sleep(timeout) => Status::deadline_exceeded("the call took longer than its deadline allows"),
            }
        };
        let call = call::contain(call::until(self.service.call(request), end));
        let echo: Echo = Box::new(move |answer| {
            answer.map(|mut response| {
                response.headers_mut().insert(REQUEST_ID, id);
                response
            })
        });
        Either::Left(call.instrument(span).map(echo))
    }
}

fn authority_lost(refusal: &Refusal) -> Status {
    let details = ErrorDetails::with_error_info(refusal.code(), mtls::ERROR_DOMAIN, []);
    let text = format!("the connection lost its authority: {refusal}");
    Status::with_error_details(tonic::Code::Unauthenticated, text, details)
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

fn span(request: &Request<Body>, peer: &Peer, id: &HeaderValue) -> Span {
    let path = request.uri().path();
    info_span!("rpc", rpc.method = path, peer.identity = %peer, request_id = id.to_str().unwrap_or_default())
}
