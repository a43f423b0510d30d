//! How a program of ours starts, tells what it does, and ends: settings from flags and `APP_*` variables, logs, traces,
//! signals, exit codes.
//!
//! Never a default that weakens security, never a setting that is silently ignored.

pub mod exit;
mod file;
mod last_resort;
mod limiter;
mod line;
mod log;
mod observer;
mod open_files;
#[cfg(feature = "otlp")]
mod otlp;
mod runtime;
mod settings;
mod signal;
mod traces;
mod writer;

pub use file::read_file;
pub use last_resort::{LastResort, last_resort};
pub use log::{LogFormat, Logs, init_logs, log_metrics};
pub use observer::{CallFacts, Observer, REQUEST_ID, RequestId};
pub use open_files::max_open_files;
pub use runtime::{default_workers, runtime, shut_down};
pub use settings::{Duration, parse, parse_on_either_side, reject_unknown_variables};
pub use signal::{Stop, stop_signal};
pub use traces::{CallSpan, InvalidTracing, Traces};
