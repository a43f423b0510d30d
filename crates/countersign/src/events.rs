//! The messages of log events. docs/operations.md describes each.

base::names! {
    ADMIN_ACCEPT_FAILED = "cannot accept on the admin port; trying again",
    ADMIN_LISTENING = "admin port listening",
    ASKED_TO_STOP = "asked to stop",
    AUDIT_UNFINISHED = "the audit log did not take its last events in time",
    FEWER_CONNECTIONS = "fewer connections than the settings allow, because the process may open few files; raise that limit, as with `ulimit -n`",
    HANDLER_PANICKED = "a handler panicked; its call was answered INTERNAL",
    HANDLER_PANICKED_LATE = "a handler panicked when its call was over",
    LISTENING = "listening",
    LISTENING_UNACCEPTED = "listening, with credentials that peers will refuse",
    NOT_A_CALL = "request refused: it is no gRPC call",
    NOT_READY = "not ready",
    READY = "ready",
    SERVICE_FAILED = "stopping, because a service cannot go on",
    STOPPED = "stopped: every call was finished",
    STOPPED_AT_ONCE = "asked to stop again: stopped at once",
    STOPPED_CUT = "stopped: some connections were cut",
    THREAD_HANGS = "a thread hangs in a file or a disk; it is left behind",
}
