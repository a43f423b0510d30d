//! What operators are told: log lines, numbers on a [`Page`] that Prometheus reads, and the place of a call in a trace.
//!
//! [`init_logs`] starts the log of a process, an [`Observer`] sees the calls of one side, and [`Traces`] sends their
//! spans to a collector. Each crate that counts something writes its own families on the page.

mod calls;
mod code;
mod count;
mod histogram;
mod input;
mod limiter;
mod line;
mod log;
mod observer;
#[cfg(feature = "otlp")]
mod otlp;
mod page;
mod process;
mod queue;
mod quota;
mod server_call;
mod trace;
mod traces;
mod writer;

pub use calls::{Calls, Side};
pub use code::code_name;
pub use count::{CountBy, Counter};
pub use histogram::Histogram;
pub use input::Input;
pub use log::{LogFormat, Logs, init_logs, log_metrics};
pub use observer::{CallFacts, Observer, REQUEST_ID, RequestId};
pub use page::{CONTENT_TYPE, Family, Page};
pub use process::process;
pub use queue::FairQueue;
pub use quota::{LeftOut, Quota, Quotas};
pub use server_call::{CallLines, Entered, IsServerCall, ServerCall, enter};
pub use trace::{Malformed, TraceContext};
pub use traces::{CallSpan, InvalidTracing, Traces};
