//! The request of a call: its messages are counted before the handler reads them, and it ends with its call, even for
//! a task of the handler that outlives the call. Messages are not copied.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use base::call::MessageCount;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use telemetry::{IsServerCall, ServerCall};
use tokio::time::Instant;
use tonic::Status;

use crate::server::ends::Ends;

/// What a call and its request share.
#[derive(Debug)]
pub(crate) struct CallState {
    call: ServerCall,
    /// Once it is known how long the call may take, and whether it is allowed.
    ends: OnceLock<Ends>,
    /// The first message has arrived, or nothing waits for it.
    begun: AtomicBool,
    over: AtomicBool,
    reader: Mutex<Reader>,
}

#[derive(Debug, Default)]
struct Reader {
    /// What the request ends with, when the call did not end by itself.
    end: Option<Status>,
    waker: Option<Waker>,
}

impl IsServerCall for CallState {
    fn server_call(&self) -> &ServerCall {
        &self.call
    }
}

impl mtls::OpenCall for CallState {
    fn is_over(&self) -> bool {
        let came = |ends: &Ends| ends.have_come(self.began());
        self.ends().is_some_and(came)
    }
}

impl CallState {
    pub(crate) fn new(call: ServerCall) -> Self {
        Self {
            call,
            ends: OnceLock::new(),
            begun: AtomicBool::new(false),
            over: AtomicBool::new(false),
            reader: Mutex::default(),
        }
    }

    pub(crate) fn call(&self) -> &ServerCall {
        &self.call
    }

    /// When the call began.
    pub(crate) fn began(&self) -> Instant {
        Instant::from_std(self.call.began())
    }

    /// What may end it early.
    pub(crate) fn ends(&self) -> Option<&Ends> {
        self.ends.get()
    }

    /// May end early by `ends`. Only the first time counts.
    pub(crate) fn may_end_by(&self, ends: Ends) {
        self.ends.get_or_init(|| ends);
    }

    /// Whether nothing waits for the first message any more.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// The call is over, by this status or by itself. Only the first time counts.
    pub(crate) fn end(&self, status: Option<&Status>) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        let mut reader = self.reader();
        self.over.store(true, Ordering::Release);
        reader.end = status.cloned();
        let waker = reader.waker.take();
        drop(reader);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the task that polls when the call is over, unless it already is.
    fn wake_at_end(&self, cx: &Context<'_>) -> Poll<()> {
        let mut reader = self.reader();
        if self.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        match &mut reader.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody<B> {
    /// Until it has ended.
    body: Option<B>,
    count: MessageCount,
    shared: Arc<CallState>,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(body: B, count: MessageCount, shared: Arc<CallState>) -> Self {
        Self {
            body: Some(body),
            count,
            shared,
        }
    }

    fn over(&mut self) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        let end = self.shared.reader().end.clone();
        let end = end.unwrap_or_else(|| Status::cancelled("the call is over"));
        Poll::Ready(Some(Err(end)))
    }

    fn begun(&self) {
        self.shared.begun.store(true, Ordering::Release);
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else {
            return Poll::Ready(None);
        };
        if this.shared.over.load(Ordering::Acquire) {
            return this.over();
        }
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending if this.shared.wake_at_end(cx).is_ready() => return this.over(),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let looked = match frame.data_ref() {
                    Some(data) => this.count.look(data),
                    None => Ok(()),
                };
                if this.count.has_one() {
                    this.begun();
                }
                Some(looked.map(|()| frame))
            }
            // There is no message; the handler decides about that.
            Some(Err(error)) => {
                this.begun();
                Some(Err(Status::from_error(error.into())))
            }
            None => {
                this.begun();
                this.count.end().err().map(Err)
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let ended = |body: &B| body.is_end_stream() && self.count.may_end();
        self.body.as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(B::size_hint).unwrap_or_default()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.begun();
    }
}
