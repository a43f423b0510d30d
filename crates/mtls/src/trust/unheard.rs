//! A program that has no subscriber of `tracing`: what a server says about the callers that it refuses reaches nobody.

use std::io::{self, Write as _};
use std::sync::Once;

const NOBODY: &[u8] =
    b"warning: nobody hears the log of this server, refusals of callers included: call \
countersign::telemetry::init_logs, or set another subscriber of tracing\n";

/// Says so on standard error, once in a program.
pub(super) fn warn_once() {
    static SAID: Once = Once::new();
    if !tracing::dispatcher::has_been_set() {
        // Standard error may be closed.
        SAID.call_once(|| drop(io::stderr().write_all(NOBODY)));
    }
}
