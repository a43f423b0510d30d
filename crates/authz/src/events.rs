//! The messages of log events. docs/operations.md describes each.

base::names! {
    AUDIT_EVENT_DROPPED = "an audit event was dropped: the loggers do not keep up",
    AUDIT_EVENT_NOT_WRITTEN = "an audit event was not written",
    AUDIT_PRINCIPALS_LEFT_OUT = "denials of further principals are missing from the audit log: too many principals were denied too often",
    AUTHORIZATION = "authorization",
    CALL_REFUSED = "call refused",
    MALFORMED_PATH = "a path that is not /service/method",
    NO_AUDIT_THREAD = "no thread for the audit log: its events are dropped",
    NO_VERIFIED_PEER = "request refused: it has no verified peer",
    POLICY_IN_FORCE = "policy in force",
    POLICY_READ_SLOW = "reading the policy takes longer than a reload interval: does the file or a disk hang? The last good one stays in force",
    POLICY_REFUSED = "new policy refused; the last good one stays in force",
    POLICY_WARNING = "policy warning",
    SHADOW_DIFFERS = "the shadow policy decides differently",
}
