//! Warns that the program has no `tracing` subscriber, so the log lines of a server, refusals included, are lost.

use std::io::{self, Write as _};
use std::sync::Once;

const WARNING: &[u8] =
    b"warning: this program has no tracing subscriber, so its log is lost, refusals of callers included: call \
countersign::telemetry::init_logs, or set another subscriber\n";

/// Writes the warning to standard error, once in a program.
pub(super) fn warn_once() {
    static SAID: Once = Once::new();
    if !tracing::dispatcher::has_been_set() {
        // Standard error may be closed.
        SAID.call_once(|| drop(io::stderr().write_all(WARNING)));
    }
}
