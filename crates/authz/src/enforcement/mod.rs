//! Enforces a policy on the calls of a server.
//!
//! - `policy_file`: reads and checks the file; `live`: the policy in force; `authorization`: policy, audit log and counts
//! - `gate`: decides the calls of a connection; `layer`: the gate before any tower service
//! - `metrics`: the counts of decisions

pub(crate) mod authorization;
pub(crate) mod gate;
pub(crate) mod layer;
pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod policy_file;
