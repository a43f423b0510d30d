//! The policy around the calls of one connection, from their first byte to their last.
//!
//! Never asks a request who sends it: the caller is given when the service is made.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::call::{self, Until};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::{oneshot, watch};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::enforcement::authorization::Authorization;
use crate::enforcement::live::InForce;
use crate::policy::caller::Caller;
use crate::policy::path::routed_path;

/// A service whose every call is allowed by the policy, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Enforce<S> {
    authorization: Authorization,
    caller: Arc<Caller>,
    service: S,
}

impl Authorization {
    /// `service` for one connection, behind the policy. There is no other way to a caller than this, so no call can
    /// lack one.
    pub fn for_caller<S>(&self, caller: impl Into<Caller>, service: S) -> Enforce<S> {
        Enforce::new(self.clone(), Arc::new(caller.into()), service)
    }
}

impl<S> Enforce<S> {
    pub(crate) fn new(authorization: Authorization, caller: Arc<Caller>, service: S) -> Self {
        Self {
            authorization,
            caller,
            service,
        }
    }
}

impl<S> Service<Request<Body>> for Enforce<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Enforced<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Subscribed before it is asked, so that no policy can slip in between.
        let mut policy = self.authorization.policy().subscribe();
        let in_force = policy.borrow_and_update().clone();
        let (path, headers) = (routed_path(&request), request.headers());
        if let Err(refusal) = self
            .authorization
            .admit(&in_force, &self.caller, path, headers)
        {
            return Enforced {
                state: State::Refused(Some(refusal)),
            };
        }
        let (cut, call_over) = oneshot::channel();
        let running = Running {
            authorization: self.authorization.clone(),
            caller: Arc::clone(&self.caller),
            request: copy_head(&request),
            cut,
        };
        let request = request.map(|body| {
            Body::new(RequestBody {
                body,
                call_over: Some(call_over),
            })
        });
        let call = call::until(self.service.call(request), running.until_refused(policy));
        Enforced {
            state: State::Allowed(call),
        }
    }
}

/// What a policy may ask of a request, for as long as it runs.
fn copy_head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    head.uri_mut().clone_from(request.uri());
    head.headers_mut().clone_from(request.headers());
    head
}

/// A call that was allowed.
struct Running {
    authorization: Authorization,
    caller: Arc<Caller>,
    request: Request<()>,
    cut: oneshot::Sender<Status>,
}

impl Running {
    /// Resolves when a new policy does not allow the call. While no policy comes, nothing runs.
    async fn until_refused(self, mut policy: watch::Receiver<InForce>) -> Status {
        let (path, headers) = (routed_path(&self.request), self.request.headers());
        while policy.changed().await.is_ok() {
            let in_force = policy.borrow_and_update().clone();
            if let Err(refusal) = self
                .authorization
                .keep(&in_force, &self.caller, path, headers)
            {
                // The handler may have dropped the request already.
                drop(self.cut.send(refusal.clone()));
                return refusal;
            }
        }
        pending().await
    }
}

/// The future of [`Enforce`].
#[must_use = "a call runs when it is polled"]
pub struct Enforced<F> {
    state: State<F>,
}

enum State<F> {
    Refused(Option<Status>),
    Allowed(Until<F>),
}

impl<F, E> Future for Enforced<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Allowed(call) => Pin::new(call).poll(cx),
            State::Refused(refusal) => match refusal.take() {
                Some(refusal) => Poll::Ready(Ok(refusal.into_http())),
                None => Poll::Pending,
            },
        }
    }
}

impl<F> std::fmt::Debug for Enforced<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enforced").finish_non_exhaustive()
    }
}

/// A request body that ends with its call: a handler's task that outlives the call must not read on.
struct RequestBody {
    body: Body,
    call_over: Option<oneshot::Receiver<Status>>,
}

impl http_body::Body for RequestBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
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
