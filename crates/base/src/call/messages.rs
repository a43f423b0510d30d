//! The messages of a request, counted before anybody reads one (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! A method that takes one message gets exactly one, and none gets one that is too large; the statuses are those of gRPC's
//! statuscodes.md.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// The flag and the length before each message.
const PREFIX: usize = 5;

/// Passes `body` on, up to a message of more than `max_bytes`. With `only_one`, up to a second message too, and not to the
/// end when there was none.
pub fn messages(body: Body, max_bytes: usize, only_one: bool) -> Body {
    Body::new(Messages {
        body,
        max_bytes,
        only_one,
        seen: false,
        prefix: Vec::with_capacity(PREFIX),
        left: 0,
    })
}

struct Messages {
    body: Body,
    max_bytes: usize,
    only_one: bool,
    /// Whether a message has begun.
    seen: bool,
    /// What came of the prefix of the next message.
    prefix: Vec<u8>,
    /// What is still to come of a message.
    left: usize,
}

impl Messages {
    fn look(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while let Some((first, rest)) = data.split_first() {
            if self.left > 0 {
                let skipped = self.left.min(data.len());
                self.left -= skipped;
                data = data.get(skipped..).unwrap_or_default();
                continue;
            }
            if self.prefix.is_empty() && self.only_one && self.seen {
                return Err(Status::unimplemented(
                    "the method takes one message, and the request has more",
                ));
            }
            self.seen = true;
            self.prefix.push(*first);
            data = rest;
            if let [_, a, b, c, d] = *self.prefix.as_slice() {
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                self.prefix.clear();
                if self.left > self.max_bytes {
                    return Err(Status::resource_exhausted(format!(
                        "a request message has {length} bytes, and may have {}",
                        self.max_bytes
                    )));
                }
            }
        }
        Ok(())
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let looked = frame.data_ref().map_or(Ok(()), |data| self.look(data));
                Some(looked.map(|()| frame))
            }
            Some(Err(status)) => Some(Err(status)),
            None if self.only_one && !self.seen => {
                // Said once.
                self.seen = true;
                Some(Err(Status::unimplemented(
                    "the method takes one message, and the request has none",
                )))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && (self.seen || !self.only_one)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use super::*;

    async fn code(frames: &[&[u8]], only_one: bool) -> Code {
        let frames: Vec<_> = frames
            .iter()
            .map(|data| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(data))))
            .collect();
        let body = Body::new(StreamBody::new(tonic::codegen::tokio_stream::iter(frames)));
        let read = messages(body, 3, only_one).collect().await;
        read.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[tokio::test]
    async fn messages_are_counted_however_they_are_cut() {
        let two: &[u8] = &[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0];
        let one = two.get(..6).unwrap();
        let bytes: Vec<&[u8]> = two.chunks(1).collect();
        for (frames, only_one, expected) in [
            (&[one][..], true, Code::Ok),
            (&bytes[..6], true, Code::Ok),
            (&[one, &[]], true, Code::Ok),
            (&[two], true, Code::Unimplemented),
            (&bytes, true, Code::Unimplemented),
            (&[one, &[0]], true, Code::Unimplemented),
            (&[], true, Code::Unimplemented),
            (&[], false, Code::Ok),
            (&[two], false, Code::Ok),
            (&[&[0, 0, 0, 0, 4]], true, Code::ResourceExhausted),
            (
                &[one, &[0, 255, 255, 255, 255]],
                false,
                Code::ResourceExhausted,
            ),
        ] {
            assert_eq!(code(frames, only_one).await, expected, "{frames:?}");
        }
    }
}
