//! gRPC's own authorization policy (gRFC A43), with its audit log (gRFC A59), for tower services.
//!
//! A [`Policy`] is parsed strictly and decides purely: no I/O, no clock, no allocation on an allow.
//! This crate knows an [`identity::Peer`]; it never sees TLS, and reads no policy file.

mod audit;
mod caller;
mod cursor;
mod decide;
mod invalid;
mod json;
mod parse;
mod path;
mod pattern;
mod policy;
mod rule;

pub use audit::{AuditCondition, AuditEvent, AuditLogger, Loggers};
pub use caller::{Caller, Identity};
pub use decide::{Cause, Decision, Verdict};
pub use invalid::{Fault, InvalidPolicy};
pub use policy::Policy;
