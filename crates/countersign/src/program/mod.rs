//! How a program starts and ends: settings from flags and `APP_*` variables, signals, exit codes.

pub mod exit;
mod last_resort;
mod open_files;
mod runtime;
mod settings;
mod signal;
mod tool;

pub use last_resort::{LastResort, last_resort};
pub use open_files::max_open_files;
pub use runtime::{default_workers, runtime, shut_down};
#[cfg(any(feature = "server", feature = "client"))]
pub(crate) use settings::warn_of_ignored_variables;
pub use settings::{Duration, UnknownVariable, parse, parse_with, reject_unknown_variables};
pub use signal::{Stop, stop_signal};
#[cfg(feature = "server")]
pub(crate) use signal::{first_signals, listen_from_now};
pub use tool::tool;
