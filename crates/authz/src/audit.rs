//! The audit log of gRFC A59: one event per decided RPC, if the policy asks for it.
//!
//! Never waits and never fails an RPC: events queue for a writer thread, and what does not fit is counted.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{error, warn};
use uuid::Uuid;

use crate::decide::{Decision, Verdict};
use crate::policy::Policy;

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
    /// Optional loggers that nobody registered: the place, the line and the name.
    pub(crate) left_out: Vec<(String, u32, String)>,
    /// Where the policy says so, if it does.
    pub(crate) line: Option<u32>,
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

/// How many events may wait for the writer.
const QUEUE: usize = 8192;

/// The queue of events and its writer.
#[derive(Debug, Default)]
pub struct Audit {
    /// Started by the first event, so that a policy without audit costs no thread.
    writer: OnceLock<Option<SyncSender<Job>>>,
    counters: Arc<Counters>,
}

/// What became of audit events, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// Events that a logger wrote; an event with two loggers counts twice.
    pub written: u64,
    /// Events that a logger failed to write.
    pub failed: u64,
    /// Events that found the queue full.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

enum Job {
    Write(Arc<Policy>, AuditEvent),
    Flush(SyncSender<()>),
}

impl Audit {
    /// Queues the event of a decision, or drops it and counts.
    pub(crate) fn record(
        &self,
        policy: &Arc<Policy>,
        decision: Decision<'_>,
        path: &str,
        id: Uuid,
    ) {
        if policy.audit.loggers.is_empty() {
            return;
        }
        let event = AuditEvent {
            timestamp: now(),
            rpc_method: path.to_owned(),
            principal: decision.principal.to_owned(),
            policy_name: policy.name().to_owned(),
            matched_rule: decision.rule().unwrap_or_default().to_owned(),
            authorized: decision.is_allowed(),
            decision_id: id,
        };
        let writer = self
            .writer
            .get_or_init(|| start_writer(Arc::clone(&self.counters)));
        let job = Job::Write(Arc::clone(policy), event);
        let queued = writer
            .as_ref()
            .is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !queued {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            warn!(decision_id = %id, "an audit event was dropped: the loggers do not keep up");
        }
    }

    /// What became of the events so far.
    pub fn counts(&self) -> AuditCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters {
            written,
            failed,
            dropped,
        } = &*self.counters;
        AuditCounts {
            written: read(written),
            failed: read(failed),
            dropped: read(dropped),
        }
    }

    /// Blocks until everything queued so far is written, at most for `patience`. Whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let Some(writer) = self.writer.get() else {
            return true;
        };
        let Some(jobs) = writer else { return false };
        let (done, written) = mpsc::sync_channel(1);
        // A full queue means that the writer is stuck or far behind: then there is nothing to wait for.
        jobs.try_send(Job::Flush(done)).is_ok() && written.recv_timeout(patience).is_ok()
    }
}

fn now() -> String {
    // Fails for years of five digits only.
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// `None` when the system has no thread to give; then every event is counted as dropped.
fn start_writer(counters: Arc<Counters>) -> Option<SyncSender<Job>> {
    let (jobs, queue) = mpsc::sync_channel(QUEUE);
    let write = move || {
        for job in queue {
            match job {
                Job::Write(policy, event) => write(&policy, &event, &counters),
                // Whoever asked may have lost patience.
                Job::Flush(done) => drop(done.try_send(())),
            }
        }
    };
    match thread::Builder::new().name("audit".to_owned()).spawn(write) {
        Ok(_detached) => Some(jobs),
        Err(error) => {
            error!(%error, "no thread for the audit log: its events are dropped");
            None
        }
    }
}

fn write(policy: &Policy, event: &AuditEvent, counters: &Counters) {
    for logger in &policy.audit.loggers {
        let counter = match logger.log(event) {
            Ok(()) => &counters.written,
            Err(error) => {
                error!(%error, ?logger, decision_id = %event.decision_id, "an audit event was not written");
                &counters.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
