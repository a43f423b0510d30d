//! The codes that only this tool gives. docs/errors.md has each.

base::names! {
    CLOCK_SKEW,
    HEALTHY,
    INTERMEDIATE_MISSING,
    NOT_SERVING,
    RPC_FAILED,
    WRONG_CLIENT,
}
