//! A panic in a call is that call's failure and nobody else's.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tracing::error;

use crate::call::until::trailers;

/// Runs `call`, and answers INTERNAL when it panics, also in the middle of its response.
///
/// What panicked is dropped and never polled again, so that nobody sees a state that it left broken.
pub fn contain<F>(call: F) -> Contained<F> {
    Contained {
        call: Some(Box::pin(call)),
    }
}

/// The future of [`contain`].
#[must_use = "a call runs when it is polled"]
pub struct Contained<F> {
    call: Option<Pin<Box<F>>>,
}

impl<F, E> Future for Contained<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = self.call.as_mut() else {
            return Poll::Pending;
        };
        if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            let response = ready!(poll);
            self.call = None;
            return Poll::Ready(response.map(|response| {
                response.map(|body| Body::new(ContainedBody { body: Some(body) }))
            }));
        }
        self.call = None;
        Poll::Ready(Ok(panicked().into_http()))
    }
}

impl<F> std::fmt::Debug for Contained<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contained").finish_non_exhaustive()
    }
}

/// A response body whose panic is its trailers.
#[derive(Debug)]
pub struct ContainedBody {
    body: Option<Body>,
}

impl http_body::Body for ContainedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            return poll;
        }
        self.body = None;
        Poll::Ready(Some(trailers(&panicked()).map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// What a caller gets whose call panicked; it is also said in the log.
pub fn panicked() -> Status {
    error!("a handler panicked; its call was answered INTERNAL");
    Status::internal("the server failed; the operator has the details")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_an_internal_error() {
        let call = async {
            if std::hint::black_box(true) {
                panic!("expected by the test");
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        };
        let answer = contain(call).await.unwrap();
        assert_eq!(
            Status::from_header_map(answer.headers()).unwrap().code(),
            Code::Internal
        );
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_with_internal_trailers() {
        struct Panics;
        impl http_body::Body for Panics {
            type Data = Bytes;
            type Error = Status;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
                panic!("expected by the test")
            }
        }
        let call = async { Ok::<_, Infallible>(Response::new(Body::new(Panics))) };
        let mut body = contain(call).await.unwrap().into_body();
        let trailers = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(
            Status::from_header_map(&trailers).unwrap().code(),
            Code::Internal
        );
        assert!(body.frame().await.is_none());
    }
}
