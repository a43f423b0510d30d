//! Detects responses that their caller does not read.
//!
//! A piece of a response waits until the caller's flow-control window has room for it (RFC 9113 §5.2). Until then no
//! status can be sent on that stream, so a caller that does not read is cut with its connection. A response that has
//! nothing to send is not affected.
//!
//! It also records whether a call is open, and since when none is.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

/// The calls of one connection. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct OpenResponses(Arc<Mutex<UnreadState>>);

#[derive(Debug)]
struct UnreadState {
    /// Of each open call: since when its response could go on and was not asked to.
    unread: Vec<Option<Instant>>,
    /// Places in `unread` of calls that are over.
    free: Vec<usize>,
    /// When the last of them ended.
    idle_since: Instant,
}

/// One call, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenResponse {
    calls: OpenResponses,
    at: usize,
}

impl OpenResponses {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(UnreadState {
            unread: Vec::new(),
            free: Vec::new(),
            idle_since: Instant::now(),
        })))
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> OpenResponse {
        let mut open = self.open();
        let at = open.free.pop().unwrap_or_else(|| {
            open.unread.push(None);
            open.unread.len() - 1
        });
        drop(open);
        OpenResponse {
            calls: self.clone(),
            at,
        }
    }

    /// Resolves when a response was not asked for more for `limit`, and twice that at the latest.
    pub(crate) async fn stuck(self, limit: Duration) {
        loop {
            let oldest = self.open().unread.iter().flatten().min().copied();
            let now = Instant::now();
            let due = oldest.unwrap_or(now) + limit;
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }

    /// Resolves when no call was open for `limit` on end.
    pub(crate) async fn idle(self, limit: Duration) {
        loop {
            let since = {
                let open = self.open();
                (open.free.len() == open.unread.len()).then_some(open.idle_since)
            };
            match since {
                // It cannot have been idle for that long when it is looked at again.
                None => sleep(limit).await,
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => sleep(limit.saturating_sub(since.elapsed())).await,
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, UnreadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenResponse {
    /// Its response could go on, since now; or waits for something else than its caller.
    fn could_go_on(&self, could: bool) {
        let since = could.then(Instant::now);
        if let Some(unread) = self.calls.open().unread.get_mut(self.at) {
            *unread = since;
        }
    }

    /// Passes `body` on and knows when it is not asked for more.
    pub(crate) fn watch<B: http_body::Body>(self, body: B) -> Watched<B> {
        self.could_go_on(!body.is_end_stream());
        Watched { body, call: self }
    }
}

impl Drop for OpenResponse {
    fn drop(&mut self) {
        let mut open = self.calls.open();
        if let Some(unread) = open.unread.get_mut(self.at) {
            *unread = None;
        }
        open.free.push(self.at);
        if open.free.len() == open.unread.len() {
            open.idle_since = Instant::now();
        }
    }
}

/// The body of [`OpenResponse::watch`].
#[derive(Debug)]
pub(crate) struct Watched<B> {
    body: B,
    call: OpenResponse,
}

impl<B> http_body::Body for Watched<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.call
            .could_go_on(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
