//! gRPC authorization policies (gRFC A43) with audit logging (gRFC A59), for tower services.
//!
//! A [`Policy`] is parsed strictly. A decision is a pure function: no I/O, no clock, and no allocation if it allows the
//! call. This crate depends on [`identity::Peer`], but not on TLS.
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
//! assert_eq!(decide("/shop.v1.Shop/Put"), Verdict::Deny); // no rule allows it
//! # Ok::<(), countersign_authz::InvalidPolicy>(())
//! ```
//!
//! - [`Policy`]: parse, decide, [explain](Policy::explain); [`check`] and [`lint`] find likely mistakes, against an
//!   [`Api`]
//! - [`LivePolicy`], [`PolicyFile`]: the policy in force, replaced while calls run
//! - [`Authorization`]: the policy, a shadow policy, the audit log and the metrics of a server
//! - [`AuthorizationLayer`]: authorization for an existing tower service
//! - [`Audit`], [`AuditLogger`]: the audit log, which says who called what (gRFC A59)

// Who gets in is decided here: each match names every case, so that a new one is not decided by accident.
#![warn(clippy::wildcard_enum_match_arm)]

mod audit;
pub mod codes;
mod enforcement;
pub mod events;
mod lint;
mod policy;

pub use audit::event::{AuditCondition, AuditEvent, AuditLogger};
pub use audit::log::{Audit, AuditCounts};
pub use audit::loggers::Loggers;
pub use base::api::{Api, InvalidApi};
pub use codes::{NO_PEER, POLICY_CHANGED, POLICY_DENIED};
pub use enforcement::authorization::{Authorization, DecisionCounts, ERROR_DOMAIN};
pub use enforcement::gate::{Allowed, Gate, Head};
pub use enforcement::layer::{AuthorizationLayer, Authorized, AuthorizedCall};
pub use enforcement::live::{InForce, LivePolicy};
pub use enforcement::policy_file::{PolicyFile, UnusablePolicy};
pub use lint::check::{check, lint};
pub use lint::finding::{Finding, Severity};
pub use policy::caller::{Caller, Identity};
pub use policy::compiled::Policy;
pub use policy::decide::{Cause, Decision, Verdict};
pub use policy::explain::{Explanation, Outcome, RuleOutcome};
pub use policy::invalid::{InvalidPolicy, PolicyFault};
pub use policy::rule::List;
