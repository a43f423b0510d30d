//! What operators are told, as plain values: numbers on a [`Page`] that Prometheus reads, and the place of a call in a
//! trace.
//!
//! Whoever counts something owns its number and writes its families. This crate never opens a socket, starts a thread
//! or writes a log line, and has no registry: a page is made when it is asked for.

mod calls;
mod code;
mod count;
mod histogram;
mod input;
mod page;
mod process;
mod queue;
mod quota;
mod trace;

pub use calls::{Calls, Side};
pub use code::code_name;
pub use count::{CountBy, Counter};
pub use histogram::Histogram;
pub use input::Input;
pub use page::{CONTENT_TYPE, Family, Page};
pub use process::process;
pub use queue::FairQueue;
pub use quota::{LeftOut, Quota, Quotas};
pub use trace::{Malformed, TraceContext};
