//! The messages of log events. docs/operations.md describes each.

/// "admin port listening"
pub const ADMIN_LISTENING: &str = "admin port listening";
/// "a call failed; more of its kind are not logged until the next report"
pub const CALL_FAILED: &str =
    "a call failed; more of its kind are not logged until the next report";
/// "a call of ours panicked"
pub const CALL_PANICKED: &str = "a call of ours panicked";
/// "working"
pub const WORKING: &str = "working";

/// All of them.
pub const ALL: &[&str] = &[ADMIN_LISTENING, CALL_FAILED, CALL_PANICKED, WORKING];
