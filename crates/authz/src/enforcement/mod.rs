//! A policy in force around the calls of a server.
//!
//! - `policy_file`: read, checked, and read again; `live`: the policy in force; `authorization`: all that stands behind a call
//! - `gate`: asked by a server for each call of a connection; `enforce` and `layer`: the same around any tower service
//! - `metrics`: the decisions in numbers

pub(crate) mod authorization;
pub(crate) mod enforce;
pub(crate) mod gate;
pub(crate) mod layer;
pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod policy_file;
