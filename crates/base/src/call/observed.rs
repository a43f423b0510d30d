//! Observes a call from its start to the end of its response.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

/// Runs `call`, its response body included, within `span`, and passes the final status code to `ended`, once.
///
/// If the response is dropped before its end, the code is CANCELLED.
pub fn observed<F>(call: F, span: Span, ended: impl FnOnce(Code) + Send + 'static) -> Observed<F> {
    Observed {
        call: Box::pin(call),
        watch: Some(CallEnd {
            span,
            ended: Some(Box::new(ended)),
        }),
    }
}

/// An error of a service in gRPC's terms.
pub trait Failed {
    /// The code that the caller sees.
    fn code(&self) -> Code;
}

impl Failed for Infallible {
    fn code(&self) -> Code {
        match *self {}
    }
}

impl Failed for Status {
    fn code(&self) -> Code {
        Self::code(self)
    }
}

/// The future of [`observed`].
#[must_use = "a call runs when it is polled"]
pub struct Observed<F> {
    call: Pin<Box<F>>,
    watch: Option<CallEnd>,
}

impl<F, E> Future for Observed<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    E: Failed,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let response = {
            let _inside = this.watch.as_ref().map(|watch| watch.span.enter());
            ready!(this.call.as_mut().poll(cx))
        };
        let Some(mut watch) = this.watch.take() else {
            return Poll::Ready(response);
        };
        Poll::Ready(match response {
            Err(error) => {
                watch.end(error.code());
                Err(error)
            }
            Ok(response) if response.body().is_end_stream() => {
                watch.end(code(response.headers()));
                Ok(response)
            }
            Ok(response) => Ok(response.map(|body| Body::new(ObservedBody { body, watch }))),
        })
    }
}

impl<F> std::fmt::Debug for Observed<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

struct CallEnd {
    span: Span,
    ended: Option<Box<dyn FnOnce(Code) + Send>>,
}

impl CallEnd {
    fn end(&mut self, code: Code) {
        if let Some(ended) = self.ended.take() {
            self.span.in_scope(|| ended(code));
        }
    }
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

struct ObservedBody {
    body: Body,
    watch: CallEnd,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, watch } = &mut *self;
        let frame = {
            let _inside = watch.span.enter();
            ready!(Pin::new(body).poll_frame(cx))
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    watch.end(code(trailers));
                }
            }
            Some(Err(status)) => watch.end(status.code()),
            None => watch.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The status code in headers or trailers; UNKNOWN when there is no gRPC status.
pub fn code(headers: &HeaderMap) -> Code {
    headers
        .get(Status::GRPC_STATUS)
        .map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn watched(
        response: Result<Response<Body>, Status>,
    ) -> (
        Observed<impl Future<Output = Result<Response<Body>, Status>>>,
        mpsc::Receiver<Code>,
    ) {
        let (tell, told) = mpsc::channel();
        let call = observed(std::future::ready(response), Span::none(), move |code| {
            tell.send(code).unwrap();
        });
        (call, told)
    }

    #[tokio::test]
    async fn the_code_is_told_once_wherever_it_comes() {
        let (call, told) = watched(Ok(Status::not_found("no").into_http()));
        drop(call.await.unwrap());
        assert_eq!(told.iter().collect::<Vec<_>>(), [Code::NotFound]);

        let (call, told) = watched(Err(Status::unavailable("gone")));
        call.await.unwrap_err();
        assert_eq!(told.iter().collect::<Vec<_>>(), [Code::Unavailable]);

        let mut trailers = HeaderMap::new();
        Status::data_loss("lost").add_header(&mut trailers).unwrap();
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"x"))),
            Ok::<_, Status>(Frame::trailers(trailers)),
        ];
        let body = Body::new(StreamBody::new(tonic::codegen::tokio_stream::iter(frames)));
        let (call, told) = watched(Ok(Response::new(body)));
        drop(call.await.unwrap().into_body().collect().await.unwrap());
        assert_eq!(told.iter().collect::<Vec<_>>(), [Code::DataLoss]);
    }

    #[tokio::test]
    async fn what_is_dropped_before_its_end_was_cancelled() {
        let (call, told) = watched(Ok(Response::default()));
        drop(call);
        assert_eq!(told.iter().collect::<Vec<_>>(), [Code::Cancelled]);

        let body = Body::new(Full::new(Bytes::from_static(b"x")));
        let (call, told) = watched(Ok(Response::new(body)));
        drop(call.await.unwrap());
        assert_eq!(told.iter().collect::<Vec<_>>(), [Code::Cancelled]);
    }
}
