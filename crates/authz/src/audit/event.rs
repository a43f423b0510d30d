//! Audit events, and the interface of audit loggers (gRFC A59).

use std::fmt;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use crate::policy::decide::Verdict;

/// Which verdicts a policy audits (gRFC A59).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditCondition {
    /// None.
    #[default]
    None,
    /// Denials.
    OnDeny,
    /// Allowed RPCs.
    OnAllow,
    /// All RPCs.
    OnDenyAndAllow,
}

impl AuditCondition {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "NONE" => Some(Self::None),
            "ON_DENY" => Some(Self::OnDeny),
            "ON_ALLOW" => Some(Self::OnAllow),
            "ON_DENY_AND_ALLOW" => Some(Self::OnDenyAndAllow),
            _ => None,
        }
    }

    pub(crate) fn wants(self, verdict: Verdict) -> bool {
        match self {
            Self::None => false,
            Self::OnDeny => verdict == Verdict::Deny,
            Self::OnAllow => verdict == Verdict::Allow,
            Self::OnDenyAndAllow => true,
        }
    }
}

/// The audit options of a policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditOptions {
    pub(crate) condition: AuditCondition,
    pub(crate) loggers: Vec<Arc<dyn AuditLogger>>,
    /// Optional loggers that are not registered: the place, the line and the name.
    pub(crate) left_out: Vec<(String, u32, String)>,
    /// Where the policy sets it, if it does.
    pub(crate) line: Option<u32>,
}

/// One decision, in the terms of gRFC A59.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When it was decided, RFC 3339 in UTC, to the microsecond.
    pub timestamp: String,
    /// The path of the RPC, `/service/method`.
    pub rpc_method: String,
    /// The name of the caller that the policy matched, of any kind, or `""`.
    pub principal: String,
    /// The name of the policy.
    pub policy_name: String,
    /// The name of the rule that decided, or `""` when none did.
    pub matched_rule: String,
    /// Whether the RPC may run.
    pub authorized: bool,
    /// The id that a denied caller gets.
    pub decision_id: Uuid,
    /// How many denials of this principal were left out before this one, because there were too many.
    pub left_out: u64,
}

/// An audit logger. It runs on the writer thread: it may block, but then the queue fills.
pub trait AuditLogger: fmt::Debug + Send + Sync {
    /// Writes one event.
    ///
    /// # Errors
    /// When the event could not be written. It is then counted as failed; the RPC is not affected.
    fn log(&self, event: &AuditEvent) -> io::Result<()>;
}
