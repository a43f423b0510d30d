//! The policy as a layer before any tower service, such as one of tonic's own server or of axum.
//!
//! The caller comes from the extensions of the request. A [`Gate`] decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base::call::{self, Until};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use identity::Peer;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer, Service};
use tracing::warn;

use crate::codes::NO_PEER;
use crate::enforcement::authorization::{Authorization, ERROR_DOMAIN};
use crate::enforcement::gate::{Allowed, Gate, Head};
use crate::events;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Authorizes every call of a tower service, with any body types.
///
/// The caller is the `Arc<Peer>` in the extensions of the request, where the transport of `countersign-mtls` puts it.
/// A request without one is refused as UNAUTHENTICATED: put this layer inside the one that adds the peer. A call that
/// the policy does not allow is refused as PERMISSION_DENIED; a running call ends with it when a new policy no longer
/// allows it. Refusals are gRPC responses (HTTP status 200 with `grpc-status`), also before a service that is not gRPC.
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
        let (gate, allowed) = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                return AuthorizedCall {
                    state: AdmittedCall::Refused(Some(refusal)),
                };
            }
        };
        let head = Head::of(&request);
        let (cut, call_over) = oneshot::channel();
        let refused = async move {
            let refusal = gate.refused(&allowed, &head).await;
            // The handler may have dropped the request already.
            drop(cut.send(refusal.clone()));
            refusal
        };
        let request = request.map(|body| {
            Body::new(AuthorizedBody {
                body: Body::new(body),
                call_over: Some(call_over),
            })
        });
        let call = TonicBodyCall {
            call: Box::pin(self.service.call(request)),
        };
        AuthorizedCall {
            state: AdmittedCall::Allowed(call::until(call, refused)),
        }
    }
}

impl<S> Authorized<S> {
    fn admit<B>(&self, request: &Request<B>) -> Result<(Gate, Allowed), Status> {
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
            warn!(code = NO_PEER, "{}", events::NO_VERIFIED_PEER);
            let details = ErrorDetails::with_error_info(NO_PEER, ERROR_DOMAIN, []);
            let text = "the call carries no verified identity";
            return Err(Status::with_error_details(
                Code::Unauthenticated,
                text,
                details,
            ));
        };
        let gate = self.authorization.gate(peer);
        let allowed = gate.admit(None, request)?;
        Ok((gate, allowed))
    }
}

/// The future of [`Authorized`].
#[must_use = "a call runs when it is polled"]
pub struct AuthorizedCall<F> {
    state: AdmittedCall<F>,
}

enum AdmittedCall<F> {
    Refused(Option<Status>),
    Allowed(Until<TonicBodyCall<F>>),
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
            AdmittedCall::Allowed(call) => Pin::new(call).poll(cx),
            AdmittedCall::Refused(refusal) => match refusal.take() {
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

/// A call whose response body is converted to tonic's.
struct TonicBodyCall<F> {
    call: Pin<Box<F>>,
}

impl<F, R, E> Future for TonicBodyCall<F>
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

/// A request body that ends with its call, also for a task of the handler that outlives the call.
struct AuthorizedBody {
    body: Body,
    call_over: Option<oneshot::Receiver<Status>>,
}

impl http_body::Body for AuthorizedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(call_over) = self.call_over.as_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(end) = Pin::new(call_over).poll(cx) {
            (self.body, self.call_over) = (Body::empty(), None);
            let end = end.unwrap_or_else(|_dropped| Status::cancelled("the call is over"));
            return Poll::Ready(Some(Err(end)));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.call_over.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
