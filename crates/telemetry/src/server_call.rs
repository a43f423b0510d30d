//! A call that a server answers, as every log line about it describes it. It is known to the thread that works for the
//! call while it does, and nothing is formatted until a line is written.
//!
//! Of the call's metadata it records only the request id and the trace id.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use tonic::Code;

use crate::request_id::RequestId;
use crate::trace::TraceContext;

/// Which calls have a line when they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CallLines {
    /// None
    Off,
    /// Those that did not end with OK
    #[default]
    Failed,
    /// All
    All,
}

impl CallLines {
    pub(crate) fn has(self, code: Code) -> bool {
        match self {
            Self::Off => false,
            Self::Failed => code != Code::Ok,
            Self::All => true,
        }
    }
}

/// The facts about a call that a server answers.
#[derive(Debug)]
pub struct ServerCall {
    /// The index of its method, if it is one of ours.
    pub(crate) place: Option<usize>,
    pub(crate) method: Arc<str>,
    pub(crate) original: Option<Box<str>>,
    pub(crate) peer: Arc<str>,
    pub(crate) request_id: RequestId,
    pub(crate) context: TraceContext,
    pub(crate) began: Instant,
}

impl ServerCall {
    /// Its trace context.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Its id.
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Each field of a line, in its order.
    pub(crate) fn fields(&self, mut put: impl FnMut(&'static str, String)) {
        put("rpc.method", self.method.as_ref().to_owned());
        if let Some(original) = &self.original {
            put("rpc.method_original", original.as_ref().to_owned());
        }
        put("peer.identity", self.peer.as_ref().to_owned());
        put("request_id", self.request_id.to_string());
        put("trace_id", self.context.trace_id().to_string());
        put("span_id", self.context.span_id().to_string());
    }
}

/// What a call shares, with the facts of it among that.
pub trait IsServerCall: Send + Sync + 'static {
    /// The facts.
    fn server_call(&self) -> &ServerCall;
}

impl IsServerCall for ServerCall {
    fn server_call(&self) -> &ServerCall {
        self
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn IsServerCall>>> = const { RefCell::new(None) };
}

/// This thread works for `call` until the guard is dropped: every line that it writes has the fields of that call.
pub fn enter(call: Arc<dyn IsServerCall>) -> Entered {
    Entered(swap(Some(call)))
}

/// The guard of [`enter`].
#[must_use = "the thread works for the call as long as this lives"]
pub struct Entered(Option<Arc<dyn IsServerCall>>);

impl Drop for Entered {
    fn drop(&mut self) {
        drop(swap(self.0.take()));
    }
}

impl std::fmt::Debug for Entered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// Reads the call that this thread works for, if it does.
pub(crate) fn current<T>(read: impl FnOnce(Option<&ServerCall>) -> T) -> T {
    let current = CURRENT.try_with(|current| current.try_borrow().ok()?.clone());
    read(
        current
            .ok()
            .flatten()
            .as_deref()
            .map(IsServerCall::server_call),
    )
}

fn swap(call: Option<Arc<dyn IsServerCall>>) -> Option<Arc<dyn IsServerCall>> {
    // A thread that ends has none any more.
    CURRENT
        .try_with(|current| match current.try_borrow_mut() {
            Ok(mut current) => std::mem::replace(&mut *current, call),
            Err(_read) => None,
        })
        .unwrap_or_default()
}
