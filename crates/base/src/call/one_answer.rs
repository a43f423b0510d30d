//! Checks that a unary call gets exactly one response message (gRPC's statuscodes.md, "response cardinality
//! violation").

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::call::messages::MessageCount;
use crate::call::observed::code;

/// Passes a response on, and ends it with an error if it does not have exactly one message.
///
/// # Errors
/// The status is OK and there is no message.
pub fn one_answer(response: Response<Body>) -> Result<Response<Body>, Status> {
    if is_ok(response.headers()) {
        return Err(none());
    }
    Ok(response.map(|body| {
        Body::new(OneAnswer {
            body,
            messages: MessageCount::new(usize::MAX, true),
        })
    }))
}

fn is_ok(headers: &HeaderMap) -> bool {
    code(headers) == Code::Ok
}

fn none() -> Status {
    Status::unimplemented("the server answered a unary call with OK and without a message")
}

fn several() -> Status {
    Status::unimplemented("the server answered a unary call with more than one message")
}

/// The body of [`one_answer`].
struct OneAnswer {
    body: Body,
    messages: MessageCount,
}

impl http_body::Body for OneAnswer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref()
                && this.messages.look(data).is_err()
            {
                return Poll::Ready(Some(Err(several())));
            }
            if !this.messages.may_end() && frame.trailers_ref().is_some_and(is_ok) {
                return Poll::Ready(Some(Err(none())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// The code that a caller sees when the server answers with `pieces` and then with OK.
    async fn code(pieces: &[&[u8]]) -> Code {
        let data = pieces.iter().map(|data| Bytes::copy_from_slice(data));
        let mut frames: Vec<_> = data
            .map(|data| Ok::<_, Status>(Frame::data(data)))
            .collect();
        let ok = HeaderMap::from_iter([(Status::GRPC_STATUS, "0".parse().unwrap())]);
        frames.push(Ok(Frame::trailers(ok)));
        let body = Body::new(StreamBody::new(tonic::codegen::tokio_stream::iter(frames)));
        let answer = one_answer(Response::new(body)).unwrap();
        let read = answer.into_body().collect().await;
        read.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[tokio::test]
    async fn one_answer_passes_and_none_and_several_do_not() {
        let empty = [0; 5];
        let long = [&[0, 0, 0, 0, 3][..], &[7; 3]].concat();
        for (pieces, expected) in [
            (vec![], Code::Unimplemented),
            (vec![&empty[..]], Code::Ok),
            (vec![&long], Code::Ok),
            (vec![&long[..2], &long[2..7], &long[7..]], Code::Ok),
            (vec![&empty, &empty[..1]], Code::Unimplemented),
            (vec![&long, &long], Code::Unimplemented),
        ] {
            assert_eq!(code(&pieces).await, expected, "{pieces:?}");
        }
    }

    #[test]
    fn ok_without_a_body_is_no_answer() {
        let refused = one_answer(Status::ok("").into_http()).unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
    }
}
