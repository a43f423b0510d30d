//! gRPC's own authorization policy (gRFC A43), with its audit log (gRFC A59), for tower services.
//!
//! A [`Policy`] is parsed strictly and decides purely: no I/O, no clock, no allocation on an allow.
//! This crate knows an [`identity::Peer`]; it never sees TLS, and reads no policy file.

mod api;
mod audit;
mod authorization;
mod caller;
mod check;
mod coverage;
mod cursor;
mod decide;
mod enforce;
mod explain;
mod gate;
mod invalid;
mod json;
mod lints;
mod live;
mod loggers;
mod metrics;
mod parse;
mod path;
mod pattern;
mod policy;
mod policy_file;
mod rule;

pub use api::{Api, InvalidApi};
pub use audit::{Audit, AuditCondition, AuditCounts, AuditEvent, AuditLogger};
pub use authorization::{Authorization, Counts, ERROR_DOMAIN, POLICY_CHANGED, POLICY_DENIED};
pub use caller::{Caller, Identity};
pub use check::{Finding, Severity, check, lint};
pub use decide::{Cause, Decision, Verdict};
pub use enforce::{Enforce, Enforced};
pub use explain::{Explanation, Outcome, RuleOutcome};
pub use gate::{Allowed, Gate, Head};
pub use invalid::{Fault, InvalidPolicy};
pub use live::{InForce, LivePolicy};
pub use loggers::Loggers;
pub use policy::Policy;
pub use policy_file::{PolicyFile, UnusablePolicy};
pub use rule::List;
