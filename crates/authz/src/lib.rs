//! gRPC's own authorization policy (gRFC A43), with its audit log (gRFC A59), for tower services.
//!
//! A [`Policy`] is parsed strictly and decides purely: no I/O, no clock, no allocation on an allow.
//! This crate knows an [`identity::Peer`]; it never sees TLS.
//!
//! ```
//! use countersign_authz::{Caller, Policy, Verdict};
//! use http::HeaderMap;
//!
//! let policy = Policy::parse(br#"{
//!     "name": "shop",
//!     "allow_rules": [{
//!         "name": "orders_read",
//!         "source": {"principals": ["spiffe://acme.test/orders"]},
//!         "request": {"paths": ["/shop.v1.Shop/Get"]}
//!     }]
//! }"#)?;
//! let orders = Caller::Authenticated {
//!     uri_sans: vec!["spiffe://acme.test/orders".to_owned()],
//!     dns_sans: vec![],
//!     subject: String::new(),
//! };
//! let decide = |path| policy.decide(&orders, path, &HeaderMap::new()).verdict();
//! assert_eq!(decide("/shop.v1.Shop/Get"), Verdict::Allow);
//! assert_eq!(decide("/shop.v1.Shop/Put"), Verdict::Deny); // nobody allowed it
//! # Ok::<(), countersign_authz::InvalidPolicy>(())
//! ```
//!
//! - [`Policy`]: parse, decide, [explain](Policy::explain); [`check`] and [`lint`] hold it against an [`Api`]
//! - [`LivePolicy`], [`PolicyFile`]: the policy in force, replaced while calls run
//! - [`Authorization`]: the policy, a shadow policy, the audit log and the counts behind every call
//! - [`AuthorizationLayer`]: all of that before a tower service that exists already
//! - [`Audit`], [`AuditLogger`]: who called what (gRFC A59)

mod api;
mod audit;
mod audit_event;
mod authorization;
mod caller;
mod check;
mod coverage;
mod cursor;
mod decide;
mod enforce;
mod explain;
mod finding;
mod gate;
mod invalid;
mod json;
mod layer;
mod lints;
mod live;
mod loggers;
mod metrics;
mod parse;
mod path;
mod pattern;
mod policy;
mod policy_file;
mod principal;
mod rpc;
mod rule;

pub use api::{Api, InvalidApi};
pub use audit::{Audit, AuditCounts};
pub use audit_event::{AuditCondition, AuditEvent, AuditLogger};
pub use authorization::{Authorization, Counts, ERROR_DOMAIN, POLICY_CHANGED, POLICY_DENIED};
pub use caller::{Caller, Identity};
pub use check::{check, lint};
pub use decide::{Cause, Decision, Verdict};
pub use enforce::{Enforce, Enforced};
pub use explain::{Explanation, Outcome, RuleOutcome};
pub use finding::{Finding, Severity};
pub use gate::{Allowed, Gate, Head};
pub use invalid::{Fault, InvalidPolicy};
pub use layer::{AuthorizationLayer, Authorized, AuthorizedCall, NO_PEER};
pub use live::{InForce, LivePolicy};
pub use loggers::Loggers;
pub use policy::Policy;
pub use policy_file::{PolicyFile, UnusablePolicy};
pub use rule::List;
