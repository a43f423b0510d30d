//! The messages of log events. docs/operations.md describes each.

base::names! {
    ADMIN_ACCEPT_FAILED = "cannot accept on the admin port; trying again",
    ADMIN_LISTENING = "admin port listening",
    ASKED_TO_STOP = "asked to stop",
    AUDIT_UNFINISHED = "the last audit events were not written in time",
    FEWER_CONNECTIONS = "fewer connections than the settings allow, because the limit of open files is too low; raise it, for example with `ulimit -n`",
    HANDLER_PANICKED = "a handler panicked; its call was answered INTERNAL",
    HANDLER_PANICKED_LATE = "a handler panicked after its call had ended",
    LISTENING = "listening",
    LISTENING_UNACCEPTED = "listening, with credentials that peers will refuse",
    NOT_A_CALL = "request refused: it is not a gRPC call",
    NOT_READY = "not ready",
    READY = "ready",
    SERVICE_FAILED = "stopping, because a service cannot continue",
    SERVICE_NOT_SERVED = "the API has a service that this server does not serve; the contract of a service that it only calls belongs elsewhere",
    STOPPED = "stopped: every call was finished",
    STOPPED_AT_ONCE = "asked to stop again: stopped at once",
    STOPPED_CUT = "stopped: some connections were cut",
    THREAD_HANGS = "a thread hangs on a file or a disk and is abandoned",
    VARIABLES_IGNORED = "environment variables that are not settings are ignored",
}
