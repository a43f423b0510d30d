//! A request body that can be sent again, as long as only a little of it has been sent.
//!
//! For calls that were provably not processed (gRFC A6, "transparent retries"). Other code decides whether they were.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;

/// How many bytes of one body are kept for sending it again.
const MAX_KEPT: usize = 64 << 10;

/// A body, and what was taken from it so far.
#[derive(Clone)]
pub(crate) struct Replay {
    source: Arc<Mutex<SharedBody>>,
}

struct SharedBody {
    body: Body,
    /// What was taken so far, unless it was too much.
    kept: Option<Vec<Bytes>>,
    size: usize,
    attempt: usize,
}

impl Replay {
    pub(crate) fn new(body: Body) -> Self {
        let source = SharedBody {
            body,
            kept: Some(Vec::new()),
            size: 0,
            attempt: 0,
        };
        Self {
            source: Arc::new(Mutex::new(source)),
        }
    }

    /// The body from its beginning, or `None` when too much of it has been sent. An earlier body ends here.
    pub(crate) fn body(&self) -> Option<Body> {
        let mut source = self.source();
        let again = source.kept.clone()?.into();
        source.attempt += 1;
        let attempt = ReplayedBody {
            number: source.attempt,
            again,
            source: self.source.clone(),
        };
        drop(source);
        Some(Body::new(attempt))
    }

    fn source(&self) -> MutexGuard<'_, SharedBody> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pass over the body: what was kept, then the rest.
struct ReplayedBody {
    number: usize,
    again: VecDeque<Bytes>,
    source: Arc<Mutex<SharedBody>>,
}

impl http_body::Body for ReplayedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(data) = self.again.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.attempt != self.number {
            return Poll::Ready(Some(Err(tonic::Status::cancelled(
                "the call is sent again elsewhere",
            ))));
        }
        let SharedBody {
            body, kept, size, ..
        } = &mut *source;
        let frame = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            *size = size.saturating_add(data.len());
            match kept {
                Some(kept) if *size <= MAX_KEPT => kept.push(data.clone()),
                Some(_) | None => *kept = None,
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        self.again.is_empty() && source.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
