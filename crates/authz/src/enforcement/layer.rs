//! The policy as a layer before a service that is not ours, such as one of tonic's own server or of axum.
//!
//! The rules are those of [`Enforce`]; what is added is where the caller comes from: the extensions of the request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use identity::Peer;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer, Service};
use tracing::warn;

use crate::enforcement::authorization::{Authorization, ERROR_DOMAIN};
use crate::enforcement::enforce::{Enforce, Enforced};
use crate::policy::caller::Caller;

/// The reason of a call whose request carries no verified peer.
pub const NO_PEER: &str = "NO_PEER";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts a policy before every call of a tower service, whatever its bodies are.
///
/// The caller is the `Arc<Peer>` in the extensions of the request, where the transport of `countersign-mtls` puts it.
/// A request without one is refused as UNAUTHENTICATED: put this layer inside of what adds the peer. A call that the
/// policy does not allow is refused as PERMISSION_DENIED, and one that runs ends so when a new policy no longer allows
/// it. Refusals are gRPC responses (HTTP status 200 with `grpc-status`), also before a service that is not gRPC.
///
/// ```
/// use countersign_authz::{Authorization, AuthorizationLayer, LivePolicy, Policy};
/// use tower::Layer;
/// # use tonic::{body::Body, service::Routes};
/// # fn existing() -> Routes { Routes::default() }
///
/// let policy = Policy::parse(br#"{"name": "shop", "allow_rules": [
///     {"name": "orders", "source": {"principals": ["spiffe://acme.test/orders"]}}]}"#)?;
/// let layer = AuthorizationLayer::new(Authorization::new(LivePolicy::new(policy)));
/// let service = layer.layer(existing());
/// # Ok::<(), countersign_authz::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug)]
pub struct AuthorizationLayer {
    authorization: Authorization,
}

impl AuthorizationLayer {
    /// The layer of `authorization`, whose policy, shadow policy, audit log and counts it shares.
    pub fn new(authorization: Authorization) -> Self {
        Self { authorization }
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Authorized<S>;

    fn layer(&self, service: S) -> Authorized<S> {
        Authorized {
            authorization: self.authorization.clone(),
            service,
        }
    }
}

/// The service of [`AuthorizationLayer`].
#[derive(Clone, Debug)]
pub struct Authorized<S> {
    authorization: Authorization,
    service: S,
}

impl<S, B, R> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = AuthorizedCall<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
            warn!(
                code = NO_PEER,
                "a request came with no verified peer, so it is refused"
            );
            let details = ErrorDetails::with_error_info(NO_PEER, ERROR_DOMAIN, []);
            let text = "the call carries no verified identity";
            let refusal = Status::with_error_details(Code::Unauthenticated, text, details);
            return AuthorizedCall {
                state: State::Unauthenticated(Some(refusal)),
            };
        };
        let caller = Arc::new(Caller::from(peer));
        let service = OneBody(&mut self.service);
        let mut enforce = Enforce::new(self.authorization.clone(), caller, service);
        AuthorizedCall {
            state: State::Authenticated(enforce.call(request.map(Body::new))),
        }
    }
}

/// The future of [`Authorized`].
#[must_use = "a call runs when it is polled"]
pub struct AuthorizedCall<F> {
    state: State<F>,
}

enum State<F> {
    Unauthenticated(Option<Status>),
    Authenticated(Enforced<OneBodyCall<F>>),
}

impl<F, R, E> Future for AuthorizedCall<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Authenticated(call) => Pin::new(call).poll(cx),
            State::Unauthenticated(refusal) => match refusal.take() {
                Some(refusal) => Poll::Ready(Ok(refusal.into_http())),
                None => Poll::Pending,
            },
        }
    }
}

impl<F> std::fmt::Debug for AuthorizedCall<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizedCall").finish_non_exhaustive()
    }
}

/// A service whose responses all have the one type of body that [`Enforce`] knows.
struct OneBody<'a, S>(&'a mut S);

impl<S, R> Service<Request<Body>> for OneBody<'_, S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = OneBodyCall<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        OneBodyCall {
            call: Box::pin(self.0.call(request)),
        }
    }
}

struct OneBodyCall<F> {
    call: Pin<Box<F>>,
}

impl<F, R, E> Future for OneBodyCall<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.call.as_mut().poll(cx));
        Poll::Ready(response.map(|response| response.map(Body::new)))
    }
}
