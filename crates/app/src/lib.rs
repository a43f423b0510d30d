//! How a program of ours starts and ends: settings from flags and `APP_*` variables, logs, signals, exit codes.
//!
//! Never a default that weakens security, never a setting that is silently ignored.

pub mod exit;
mod file;
mod limiter;
mod line;
mod log;
mod open_files;
mod settings;
mod signal;
mod writer;

pub use file::read_file;
pub use log::{LogFormat, Logs, init_logs, log_metrics};
pub use open_files::max_open_files;
pub use settings::{Duration, parse, reject_unknown_variables};
pub use signal::{Stop, stop_signal};
