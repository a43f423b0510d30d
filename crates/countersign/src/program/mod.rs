//! How a program starts and ends: settings from flags and `APP_*` variables, signals, exit codes.

pub mod exit;
mod open_files;
mod settings;
mod signal;

pub use open_files::max_open_files;
pub use settings::{Duration, UnknownVariable, parse, parse_with, reject_unknown_variables};
pub use signal::{Stop, stop_signal};
