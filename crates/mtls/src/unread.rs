//! Responses that their caller does not read: how long one has been ready to go on without being asked to.
//!
//! A piece of a response waits until the caller's window has room for it (RFC 9113 §5.2), and no more is asked for until
//! then. So a caller that does not read can be told nothing on that stream, neither a deadline nor that it lost its
//! right, and its connection is what remains to be ended. A response that has nothing to say for a long time was asked,
//! and is not meant.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tonic::body::Body;

/// The responses of one connection. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Responses(Arc<Mutex<Unread>>);

#[derive(Debug, Default)]
struct Unread {
    next: u64,
    /// Since when each response that could go on has not been asked to.
    since: HashMap<u64, Instant>,
}

impl Responses {
    /// Passes `body` on and knows when it is not asked for more.
    pub(crate) fn watch(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let mut unread = self.unread();
        let id = unread.next;
        unread.next += 1;
        unread.since.insert(id, Instant::now());
        drop(unread);
        Body::new(Watched {
            body,
            id,
            responses: self.clone(),
        })
    }

    /// Resolves when a response was not asked for more for `limit`, and twice that at the latest.
    pub(crate) async fn stuck(self, limit: Duration) {
        loop {
            let oldest = self.unread().since.values().min().copied();
            let now = Instant::now();
            let due = oldest.unwrap_or(now) + limit;
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    body: Body,
    id: u64,
    responses: Responses,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut unread = self.responses.unread();
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            unread.since.insert(self.id, Instant::now());
        } else {
            unread.since.remove(&self.id);
        }
        drop(unread);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.responses.unread().since.remove(&self.id);
    }
}
