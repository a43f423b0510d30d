//! Logs, metrics in Prometheus' text format, and traces.
//!
//! [`init_logs`] starts the log of a process. An [`Observer`] records the calls of a server or a client, and [`Traces`]
//! exports their spans. Each crate registers its own metrics.
//!
//! ```
//! use prometheus_client::registry::Registry;
//!
//! let mut registry = Registry::default();
//! countersign_telemetry::register_process(&mut registry);
//! countersign_telemetry::register_log(&mut registry);
//! ```

mod calls;
mod code;
pub mod events;
mod invalid;
mod limiter;
mod line;
mod log;
mod observer;
#[cfg(feature = "otlp")]
mod otlp;
mod process;
mod request_id;
mod server_call;
mod trace;
mod traces;
#[cfg(feature = "otlp")]
mod unsampled;
mod writer;

pub use calls::Side;
pub use code::code_name;
pub use invalid::InvalidTracing;
pub use log::{LogFormat, Logs, init_logs, register_log};
pub use observer::{ClientCall, Observer};
#[cfg(feature = "otlp")]
pub use otlp::Collector;
pub use process::register_process;
pub use request_id::{REQUEST_ID, RequestId};
pub use server_call::{CallLines, Entered, IsServerCall, ServerCall, enter};
pub use trace::{MalformedTraceContext, TraceContext};
pub use traces::{CallSpan, FailedCall, Traces};
