//! The reasons of calls that the server refuses or ends, in `google.rpc.ErrorInfo`. docs/errors.md describes each.

base::names! {
    CALLER_BUSY,
    DRAINING,
    FIRST_MESSAGE_TOO_SLOW,
    METADATA_TOO_LARGE,
    SERVER_BUSY,
}
