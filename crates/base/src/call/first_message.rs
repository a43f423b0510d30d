//! The first message of a call: when it has come, for whoever does not wait for it for ever.
//!
//! Never a judgement of its content, and never a copy of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A message's prefix: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// Passes `body` on, and drops `waiting` when its first message has been read, all of it; also when there is none, and
/// when `body` itself is dropped.
pub fn first_message(body: Body, waiting: impl Send + Unpin + 'static) -> Body {
    Body::new(Watched {
        body,
        prefix: Vec::with_capacity(PREFIX),
        left: None,
        waiting: Some(waiting),
    })
}

struct Watched<G> {
    body: Body,
    prefix: Vec<u8>,
    /// What is missing of the message, once its prefix is there.
    left: Option<usize>,
    /// Until nothing is missing.
    waiting: Option<G>,
}

impl<G> Watched<G> {
    fn read(&mut self, mut data: &[u8]) {
        let missing = PREFIX - self.prefix.len();
        let (prefix, rest) = data.split_at(missing.min(data.len()));
        self.prefix.extend_from_slice(prefix);
        data = rest;
        if self.left.is_none()
            && let [_compressed, length @ ..] = &self.prefix[..]
            && let Ok(length) = <[u8; 4]>::try_from(length).map(u32::from_be_bytes)
        {
            self.left = Some(usize::try_from(length).unwrap_or(usize::MAX));
        }
        if let Some(left) = self.left.as_mut() {
            *left = left.saturating_sub(data.len());
            if *left == 0 {
                self.waiting = None;
            }
        }
    }
}

impl<G: Unpin> http_body::Body for Watched<G> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if self.waiting.is_some() {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.read(data);
                    }
                }
                // There is none, and the handler says what it thinks of that.
                Some(Err(_)) | None => self.waiting = None,
            }
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Weak};
    use std::task::Waker;

    use http_body::Body as _;

    use super::*;

    /// Gives these pieces, and then nothing more, for ever.
    struct Pieces(VecDeque<&'static [u8]>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let piece = self.0.pop_front().map(Bytes::from_static);
            piece.map_or(Poll::Pending, |piece| {
                Poll::Ready(Some(Ok(Frame::data(piece))))
            })
        }
    }

    fn pieces(pieces: &[&'static [u8]]) -> Body {
        Body::new(Pieces(pieces.iter().copied().collect()))
    }

    fn watched(body: Body) -> (Body, Weak<()>) {
        let waiting = Arc::new(());
        let awaited = Arc::downgrade(&waiting);
        (first_message(body, waiting), awaited)
    }

    /// Whether somebody still waits for the first message of `body` when all that there is of it was read.
    fn is_awaited(body: Body) -> bool {
        let (mut body, awaited) = watched(body);
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(_)) = Pin::new(&mut body).poll_frame(&mut cx) {}
        awaited.strong_count() > 0
    }

    #[test]
    fn a_message_has_come_when_all_of_it_has() {
        assert!(is_awaited(pieces(&[])));
        assert!(is_awaited(pieces(&[&[0, 0]])));
        assert!(is_awaited(pieces(&[&[0, 0, 0, 0, 2]])));
        assert!(is_awaited(pieces(&[&[0, 0, 0, 0, 2, 1]])));
        assert!(!is_awaited(pieces(&[&[0, 0, 0, 0, 2, 1, 1]])));
        assert!(!is_awaited(pieces(&[&[0, 0], &[0, 0, 2], &[1], &[1]])));
        assert!(!is_awaited(pieces(&[&[0, 0, 0, 0, 0]])));
        // What follows it may come when it likes.
        assert!(!is_awaited(pieces(&[&[0, 0, 0, 0, 1, 1, 0, 0]])));
    }

    #[test]
    fn nobody_waits_for_the_message_of_a_body_that_has_ended_or_that_nobody_reads() {
        assert!(!is_awaited(Body::empty()));
        let (body, awaited) = watched(pieces(&[]));
        drop(body);
        assert_eq!(awaited.strong_count(), 0);
    }
}
