//! Ends a call early, with a status.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Runs `call` to the end of its response, or until `end` resolves.
///
/// When `end` resolves, the work of `call` is dropped and the caller gets the status: as the whole response if there
/// is none yet, otherwise as trailers.
pub fn until<F>(call: F, end: impl Future<Output = Status> + Send + 'static) -> Until<F> {
    Until {
        call: Some(Box::pin(call)),
        end: Some(Box::pin(end)),
    }
}

/// The future of [`until`].
#[must_use = "a call runs when it is polled"]
pub struct Until<F> {
    call: Option<Pin<Box<F>>>,
    end: Option<End>,
}

impl<F, E> Future for Until<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(end) = self.end.as_mut()
            && let Poll::Ready(status) = end.as_mut().poll(cx)
        {
            (self.call, self.end) = (None, None);
            return Poll::Ready(Ok(status.into_http()));
        }
        let Some(call) = self.call.as_mut() else {
            return Poll::Pending;
        };
        let response = ready!(call.as_mut().poll(cx));
        self.call = None;
        let Some(end) = self.end.take() else {
            return Poll::Ready(response);
        };
        Poll::Ready(response.map(|response| {
            if response.body().is_end_stream() {
                return response;
            }
            response.map(|body| {
                Body::new(UntilBody {
                    state: UntilState::Open { body, end },
                })
            })
        }))
    }
}

impl<F> std::fmt::Debug for Until<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Until").finish_non_exhaustive()
    }
}

/// A body that ends when `end` resolves, with the status as trailers.
struct UntilBody {
    state: UntilState,
}

enum UntilState {
    Open { body: Body, end: End },
    Ended,
}

impl http_body::Body for UntilBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let UntilState::Open { body, end } = &mut self.state else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(status) = end.as_mut().poll(cx) {
            self.state = UntilState::Ended;
            return Poll::Ready(Some(trailers(&status).map(Frame::trailers)));
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame
            .as_ref()
            .is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers))
        {
            self.state = UntilState::Ended;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            UntilState::Open { body, .. } => body.is_end_stream(),
            UntilState::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        // The body may end early, so its size is unknown.
        SizeHint::default()
    }
}

/// A status as the trailers that end a response.
///
/// # Errors
/// Its metadata cannot be sent.
pub fn trailers(status: &Status) -> Result<HeaderMap, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::sync::oneshot;
    use tonic::Code;

    use super::*;

    fn denied() -> Status {
        Status::permission_denied("no longer")
    }

    fn response(body: Body) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(body))
    }

    /// A body that never ends, and what tells that it was dropped.
    fn endless() -> (Body, oneshot::Receiver<()>) {
        let (alive, dropped) = oneshot::channel::<()>();
        let stream = Endless {
            first: Some(Bytes::from_static(b"first")),
            _alive: alive,
        };
        (Body::new(StreamBody::new(stream)), dropped)
    }

    struct Endless {
        first: Option<Bytes>,
        _alive: oneshot::Sender<()>,
    }

    impl tonic::codegen::tokio_stream::Stream for Endless {
        type Item = Result<Frame<Bytes>, Status>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.first.take().map_or(Poll::Pending, |bytes| {
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            })
        }
    }

    #[tokio::test]
    async fn a_call_that_may_go_on_is_left_alone() {
        let body = Body::new(Full::new(Bytes::from_static(b"all")));
        let answer = until(ready(response(body)), pending()).await.unwrap();
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "all"
        );
    }

    #[tokio::test]
    async fn before_the_response_the_status_is_the_response() {
        let call = pending::<Result<Response<Body>, Infallible>>();
        let answer = until(call, ready(denied())).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "no longer")
        );
    }

    #[tokio::test]
    async fn in_the_middle_of_a_stream_the_status_is_its_trailers_and_the_stream_is_dropped() {
        let (body, dropped) = endless();
        let (end, ended) = oneshot::channel();
        let end_of_call = async { ended.await.unwrap_or_else(|_| pending_status()) };
        let answer = until(ready(response(body)), end_of_call).await.unwrap();
        let mut body = answer.into_body();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "first"
        );
        end.send(denied()).unwrap();
        let trailers = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(
            Status::from_header_map(&trailers).unwrap().code(),
            Code::PermissionDenied
        );
        assert!(body.frame().await.is_none() && body.is_end_stream());
        dropped.await.unwrap_err();
    }

    fn pending_status() -> Status {
        Status::internal("the test ended first")
    }
}
