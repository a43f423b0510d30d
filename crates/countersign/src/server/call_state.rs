//! What a call, its request and its connection share: whether it is over, and what may end it early.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use telemetry::{IsServerCall, ServerCall};
use tokio::time::Instant;
use tonic::Status;

use crate::server::ends::{Ends, FirstMessage};

/// What a call, its request and its connection share.
#[derive(Debug)]
pub(crate) struct CallState {
    call: ServerCall,
    /// Once it is known how long the call may take, and whether it is allowed.
    ends: OnceLock<Ends>,
    first_message: FirstMessage,
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
        self.ends.get().is_some_and(came)
    }
}

impl CallState {
    pub(crate) fn new(call: ServerCall) -> Self {
        Self {
            call,
            ends: OnceLock::new(),
            first_message: FirstMessage::default(),
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

    /// Whether one of its [`Ends`] may have come, for a call that did not wait for them.
    pub(crate) fn may_be_over(&self) -> bool {
        let came = |ends: &Ends| ends.may_have_come(self.began());
        self.ends.get().is_some_and(came)
    }

    /// Resolves with the status that ends the call, when one of its [`Ends`] occurs.
    pub(crate) async fn ended(self: Arc<Self>) -> Status {
        match self.ends.get() {
            Some(ends) => ends.come(self.began(), &self.first_message).await,
            None => pending().await,
        }
    }

    /// May end early by `ends`. Only the first time counts.
    pub(crate) fn may_end_by(&self, ends: Ends) {
        self.ends.get_or_init(|| ends);
    }

    /// The first message has arrived, or nothing waits for it any more.
    pub(crate) fn first_message_came(&self) {
        self.first_message.came();
    }

    /// The handler waits for more of the request.
    pub(crate) fn awaits_more(&self) {
        self.first_message.awaits();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// What the request of a call that is over ends with.
    pub(crate) fn request_end(&self) -> Status {
        let end = self.reader().end.clone();
        end.unwrap_or_else(|| Status::cancelled("the call is over"))
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
    pub(crate) fn wake_at_end(&self, cx: &Context<'_>) -> Poll<()> {
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
