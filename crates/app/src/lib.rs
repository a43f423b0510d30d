//! How a program of ours starts and ends: settings from flags and `APP_*` variables, logs, signals, exit codes.
//!
//! Never a default that weakens security, never a setting that is silently ignored.

pub mod exit;
mod file;
mod log;
mod settings;
mod signal;

pub use file::read_file;
pub use log::{LogFormat, init_logs};
pub use settings::{Duration, parse, reject_unknown_variables};
pub use signal::{Stop, stop_signal};
