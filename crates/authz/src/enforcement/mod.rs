//! A policy in force around the calls of a server.
//!
//! - `policy_file`: read, checked, and read again; `live`: the policy in force; `authorization`: all that stands behind a call
//! - `gate`: asked for each call of a connection; `layer`: the gate before any tower service
//! - `metrics`: the decisions in numbers

pub(crate) mod authorization;
pub(crate) mod gate;
pub(crate) mod layer;
pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod policy_file;
