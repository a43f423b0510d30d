//! Detects responses that their caller does not read.
//!
//! A piece of a response waits until the caller's flow-control window has room for it (RFC 9113 §5.2). Until then no
//! status can be sent on that stream, so a caller that does not read is cut with its connection: when the call is over,
//! or after a limit. A response that has nothing to send is not affected.
//!
//! It also records whether a call is open, and since when none is.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::body::Body;

/// How often the unread responses of a connection are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long a caller has to read the status of a call that is over. Then its connection is cut.
const STATUS_UNREAD: Duration = Duration::from_millis(500);

/// A call whose response may wait for its caller.
pub trait OpenCall: fmt::Debug + Send + Sync {
    /// Whether the call is to end: its deadline has passed, or its caller has lost the right to it. Asked a few times a
    /// second, while the response is not read.
    fn is_over(&self) -> bool;
}

/// The body of a response.
pub trait ResponseBody: http_body::Body<Data = Bytes, Error = Status> {
    /// The call that it answers. `None` if that ends by itself only.
    fn call(&self) -> Option<Arc<dyn OpenCall>> {
        None
    }
}

impl ResponseBody for Body {}

/// The calls of one connection. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct OpenResponses(Arc<ConnectionResponses>);

#[derive(Debug)]
struct ConnectionResponses {
    calls: Mutex<OpenCalls>,
    /// Wakes [`OpenResponses::stuck`] when it sleeps.
    unread: Notify,
}

#[derive(Debug)]
struct OpenCalls {
    places: Vec<CallPlace>,
    /// Those of `places` whose calls are over.
    free: Vec<usize>,
    /// When the last call ended.
    idle_since: Instant,
    /// Nobody looks at unread responses, since there were none.
    asleep: bool,
}

#[derive(Debug, Default)]
struct CallPlace {
    call: Option<Arc<dyn OpenCall>>,
    unread: Option<Unread>,
}

/// A response that could go on and was not asked to.
#[derive(Clone, Copy, Debug)]
struct Unread {
    since: Instant,
    /// When its call was first seen to be over.
    over: Option<Instant>,
}

/// One call, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenResponse {
    calls: OpenResponses,
    at: usize,
}

impl OpenResponses {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ConnectionResponses {
            calls: Mutex::new(OpenCalls {
                places: Vec::new(),
                free: Vec::new(),
                idle_since: Instant::now(),
                asleep: true,
            }),
            unread: Notify::new(),
        }))
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> OpenResponse {
        let mut calls = self.calls();
        let at = calls.free.pop().unwrap_or_else(|| {
            calls.places.push(CallPlace::default());
            calls.places.len() - 1
        });
        drop(calls);
        OpenResponse {
            calls: self.clone(),
            at,
        }
    }

    /// Resolves when a response was not read for `limit`, or not for [`STATUS_UNREAD`] since its call is over.
    pub(crate) async fn stuck(self, limit: Duration) {
        loop {
            let asleep = {
                let mut calls = self.calls();
                if calls.look(Instant::now(), limit) {
                    return;
                }
                calls.asleep = calls.places.iter().all(|place| place.unread.is_none());
                calls.asleep
            };
            match asleep {
                true => self.0.unread.notified().await,
                false => sleep(LOOK.min(limit)).await,
            }
        }
    }

    /// Resolves when no call was open for `limit` on end.
    pub(crate) async fn idle(self, limit: Duration) {
        loop {
            let since = {
                let calls = self.calls();
                (calls.free.len() == calls.places.len()).then_some(calls.idle_since)
            };
            match since {
                // It cannot have been idle for that long when it is looked at again.
                None => sleep(limit).await,
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => sleep(limit.saturating_sub(since.elapsed())).await,
            }
        }
    }

    fn calls(&self) -> MutexGuard<'_, OpenCalls> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCalls {
    /// Whether a response was left unread for too long.
    fn look(&mut self, now: Instant, limit: Duration) -> bool {
        self.places.iter_mut().any(|place| {
            let Some(unread) = &mut place.unread else {
                return false;
            };
            unread.over = match &place.call {
                Some(call) if call.is_over() => unread.over.or(Some(now)),
                _ => None,
            };
            let too_long = |since: Instant, limit| now.duration_since(since) >= limit;
            too_long(unread.since, limit)
                || unread
                    .over
                    .is_some_and(|over| too_long(over, STATUS_UNREAD))
        })
    }
}

impl OpenResponse {
    /// Its response could go on, since now; or waits for something else than its caller.
    fn could_go_on(&self, could: bool) {
        let unread = could.then(|| Unread {
            since: Instant::now(),
            over: None,
        });
        let mut calls = self.calls.calls();
        let wake = could && std::mem::take(&mut calls.asleep);
        if let Some(place) = calls.places.get_mut(self.at) {
            place.unread = unread;
        }
        drop(calls);
        if wake {
            self.calls.0.unread.notify_one();
        }
    }

    /// Passes `body` on and knows when it is not asked for more.
    pub(crate) fn watch<B: ResponseBody>(self, body: B) -> Watched<B> {
        if !body.is_end_stream() {
            if let Some(place) = self.calls.calls().places.get_mut(self.at) {
                place.call = body.call();
            }
            self.could_go_on(true);
        }
        Watched {
            body,
            last_byte: None,
            call: self,
        }
    }
}

impl Drop for OpenResponse {
    fn drop(&mut self) {
        let mut calls = self.calls.calls();
        let place = calls.places.get_mut(self.at).map(std::mem::take);
        calls.free.push(self.at);
        if calls.free.len() == calls.places.len() {
            calls.idle_since = Instant::now();
        }
        drop(calls);
        // Perhaps the last of its call, which is dropped without the lock.
        drop(place);
    }
}

/// Bytes of one piece that may wait for the caller after its call has ended.
const UNREAD_AFTER_CALL: usize = 1 << 10;

/// The body of [`OpenResponse::watch`].
///
/// hyper gives a piece to h2 once the window has room for one byte of it, and asks for the next piece at once. So the last
/// byte of a long piece is a piece of its own: what follows it waits until the caller has granted all the rest.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    body: B,
    last_byte: Option<Bytes>,
    call: OpenResponse,
}

impl<B> http_body::Body for Watched<B>
where
    B: ResponseBody + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(last) = self.last_byte.take() {
            self.call.could_go_on(true);
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(data) = frame.data_mut()
            && data.len() > UNREAD_AFTER_CALL
        {
            self.last_byte = Some(data.split_off(data.len() - 1));
        }
        self.call
            .could_go_on(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.last_byte.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.last_byte {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}
