//! A call with one answer gets one: not none with the status OK, and not several (gRPC's statuscodes.md, "response
//! cardinality violation").

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

/// Passes a response on, unless it turns out to have another number of messages than one.
///
/// # Errors
/// It has the status OK and no message at all.
pub fn one_answer(response: Response<Body>) -> Result<Response<Body>, Status> {
    if is_ok(response.headers()) {
        return Err(none());
    }
    Ok(response.map(|body| {
        Body::new(OneAnswer {
            body,
            messages: Messages::default(),
        })
    }))
}

fn is_ok(headers: &HeaderMap) -> bool {
    Status::from_header_map(headers).is_some_and(|status| status.code() == Code::Ok)
}

fn none() -> Status {
    Status::unimplemented("the server ended a call that has one answer with OK and without one")
}

fn several() -> Status {
    Status::unimplemented("the server answered a call that has one answer more than once")
}

/// The body of [`one_answer`].
struct OneAnswer {
    body: Body,
    messages: Messages,
}

/// How many messages have begun, by their prefixes: a flag and four bytes of length (gRPC's PROTOCOL-HTTP2.md).
#[derive(Debug, Default)]
struct Messages {
    begun: usize,
    prefix: Vec<u8>,
    left: usize,
}

impl Messages {
    fn read(&mut self, mut bytes: &[u8]) {
        // The second one says enough.
        while !bytes.is_empty() && self.begun < 2 {
            if self.left > 0 {
                let (message, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= message.len();
                bytes = rest;
                continue;
            }
            if self.prefix.is_empty() {
                self.begun += 1;
            }
            let (prefix, rest) = bytes.split_at((5 - self.prefix.len()).min(bytes.len()));
            bytes = rest;
            self.prefix.extend_from_slice(prefix);
            if let [_, a, b, c, d] = self.prefix[..] {
                self.prefix.clear();
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
            }
        }
    }
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
            if let Some(data) = frame.data_ref() {
                this.messages.read(data);
            }
            if this.messages.begun > 1 {
                return Poll::Ready(Some(Err(several())));
            }
            if this.messages.begun == 0 && frame.trailers_ref().is_some_and(is_ok) {
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
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut_into_pieces() {
        let empty = [0; 5];
        let long = [&[0, 0, 0, 0, 3][..], &[7; 3]].concat();
        for (messages, begun) in [
            (vec![], 0),
            (vec![&empty[..]], 1),
            (vec![&long], 1),
            (vec![&empty, &empty], 2),
            (vec![&long, &empty[..1]], 2),
            (vec![&long, &long, &long], 2),
        ] {
            let bytes = messages.concat();
            for size in 1..=bytes.len().max(1) {
                let mut counted = Messages::default();
                bytes.chunks(size).for_each(|piece| counted.read(piece));
                assert_eq!(counted.begun, begun, "{bytes:?} in pieces of {size}");
            }
        }
    }
}
