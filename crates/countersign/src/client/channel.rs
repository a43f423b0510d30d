//! The channel that generated clients take: it gives every call a deadline, and retries idempotent calls that failed
//! with a transient error.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::api::Api;
use base::call::{Deadline, timeout, timeout_value};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::client::observed::{CallId, ObservedChannel};
use crate::client::retry::Retry;

/// A channel of one client; clones share its connections and its retry budget.
///
/// A call without a deadline of its own gets the one of the [`Connection`](crate::client::Connection), unless its method
/// answers with a stream. A call with one request message whose method has an `idempotency_level` is sent again by the
/// [`RetryPolicy`](crate::client::RetryPolicy) until its answer begins; no other call is, but for those that were
/// provably not processed. A call is under the [`TraceContext`](telemetry::TraceContext) among its request's extensions,
/// if there is one, and ends by the [`Deadline`] there: a server that calls another makes its requests with
/// [`child_request`](crate::server::child_request).
#[derive(Clone, Debug)]
pub struct ClientChannel {
    pub(crate) channel: ObservedChannel,
    pub(crate) api: Arc<Api>,
    pub(crate) retry: Retry,
    pub(crate) deadline: Option<Duration>,
}

impl Service<Request<Body>> for ClientChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(channel.send(request))
    }
}

impl ClientChannel {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let method = self.api.method(request.uri().path());
        let own = timeout(request.headers())?;
        let inherited = request.extensions().get::<Deadline>();
        let left = inherited.map(|it| it.0.saturating_duration_since(Instant::now()));
        if request.extensions().get::<CallId>().is_some() {
            // One attempt of a call that its caller retries.
            if let Some(left) = left.filter(|left| own.is_none_or(|own| *left < own)) {
                let value = timeout_value(left);
                request.headers_mut().insert("grpc-timeout", value);
            }
            return self.channel.send(request, method).await;
        }
        let default = self
            .deadline
            .filter(|_| method.is_none_or(|method| !method.streams_response));
        let timeout = [own.or(default), left].into_iter().flatten().min();
        let mut attempt = self.retry.begin(timeout);
        if method.is_none_or(|method| method.streams_request || !method.is_idempotent) {
            attempt.mark(&mut request);
            return self.channel.send(request, method).await;
        }
        let (head, body) = request.into_parts();
        let message = body.collect().await?.to_bytes();
        loop {
            let body = Body::new(Full::new(message.clone()));
            let mut request = Request::from_parts(head.clone(), body);
            attempt.mark(&mut request);
            match failure(self.channel.clone().send(request, method).await) {
                Ok(response) => {
                    attempt.succeeded();
                    return Ok(response);
                }
                Err(status) => attempt.failed(status).await?,
            }
        }
    }
}

/// A response that is only an error status is a failure; a response that has begun counts as one, however it ends.
fn failure(answer: Result<Response<Body>, Status>) -> Result<Response<Body>, Status> {
    let response = answer?;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status),
        Some(_) | None => Ok(response),
    }
}
