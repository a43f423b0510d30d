//! Observes the channel: each attempt of a call has a span and counts in the metrics, and carries its trace and request
//! id.
//!
//! Retries are decided in the layer above.

use std::sync::{Arc, OnceLock};

use base::api::MethodKind;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use telemetry::{ClientCall, Observer, REQUEST_ID, RequestId, TraceContext};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower::Service;

/// What all attempts of one call share: its id, and the trace that the first attempt began.
#[derive(Clone, Debug)]
pub(crate) struct CallId {
    request_id: RequestId,
    first: Arc<OnceLock<TraceContext>>,
}

impl CallId {
    pub(crate) fn random() -> Self {
        Self {
            request_id: RequestId::random(),
            first: Arc::default(),
        }
    }
}

/// A channel whose attempts are observed.
///
/// A call is under the [`TraceContext`] among its request's extensions, if there is one: a server that calls another
/// puts its own there.
#[derive(Clone, Debug)]
pub(crate) struct ObservedChannel {
    channel: mtls::Channel,
    observer: Observer,
    server: Arc<str>,
}

impl ObservedChannel {
    pub(crate) fn new(channel: mtls::Channel, observer: Observer, server: &str) -> Self {
        Self {
            channel,
            observer,
            server: server.into(),
        }
    }

    /// Sends one attempt of a call of `method`, if it is one of the API.
    pub(crate) async fn send(
        mut self,
        mut request: Request<Body>,
        method: Option<MethodKind>,
    ) -> Result<Response<Body>, Status> {
        let id = request.extensions().get().cloned();
        let CallId { request_id, first } = id.unwrap_or_else(|| CallId {
            request_id: RequestId::from_headers(request.headers()),
            first: Arc::default(),
        });
        let above = request.extensions().get::<TraceContext>();
        let (span, context, ended) = self.observer.begin(ClientCall {
            path: request.uri().path(),
            server: &self.server,
            request_id: &request_id,
            parent: first.get().or(above),
        });
        context.write(request.headers_mut());
        request.headers_mut().insert(REQUEST_ID, request_id.value());
        // Only the first attempt has no parent.
        first.set(context).ok();
        let sent = span.in_scope(|| self.channel.call(request));
        let sent = async {
            let response = sent.await?;
            if method.is_some_and(|method| !method.streams_response) {
                base::call::one_answer(response)
            } else {
                Ok(response)
            }
        };
        let response = base::call::observed(sent, span, ended).await;
        let response = response.map_err(|status| with_id(status, &request_id))?;
        Ok(
            response
                .map(|body| Body::new(body.map_err(move |status| with_id(status, &request_id)))),
        )
    }
}

/// A status that no server sent, with the request id that a server's status would have.
fn with_id(mut status: Status, id: &RequestId) -> Status {
    let mut headers: HeaderMap = status.metadata().clone().into_headers();
    headers.insert(REQUEST_ID, id.value());
    *status.metadata_mut() = MetadataMap::from_headers(headers);
    status
}
