//! The reasons of refused calls, in `google.rpc.ErrorInfo`. docs/errors.md describes each.

base::names! {
    NO_PEER,
    POLICY_CHANGED,
    POLICY_DENIED,
}
