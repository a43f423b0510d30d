//! The audit log of gRFC A59: one event per decided RPC, if the policy asks for it.
//!
//! It delays and fails no RPC: events queue for a writer thread, and events that do not fit are counted. The denials of
//! one principal are limited; those left out are a count in a later event.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base::quota::{Quota, Quotas};
use base::writer::{Sink, Writer};
use prometheus_client::metrics::counter::Counter;
use tracing::{error, warn};
use uuid::Uuid;

use crate::audit::event::AuditEvent;
use crate::events;
use crate::policy::caller::Identity;
use crate::policy::compiled::Policy;
use crate::policy::decide::Decision;

/// How many events may wait for the writer.
const QUEUE: usize = 8192;

/// Denials of one principal that are written one by one. Further ones are counted in the next event, or in the last of
/// them, which is written after ten seconds or at the end.
const DENIALS: Quota = Quota {
    burst: 100,
    refill: Duration::from_secs(1),
    parties: 4096,
};

/// The queue of events and its writer.
#[derive(Debug)]
pub struct Audit {
    /// Started by the first event, so that a policy without audit costs no thread.
    writer: OnceLock<Writer<DeniedPrincipal, QueuedEvent>>,
    denials: Arc<Mutex<DenialQuotas>>,
    counts: Arc<AuditCounts>,
}

/// The kind and the name of a caller.
type DeniedPrincipal = (&'static str, String);
type QueuedEvent = (Arc<Policy>, AuditEvent);
type DenialQuotas = Quotas<DeniedPrincipal, QueuedEvent>;

impl Default for Audit {
    fn default() -> Self {
        Self {
            writer: OnceLock::new(),
            denials: Arc::new(Mutex::new(Quotas::new(DENIALS))),
            counts: Arc::default(),
        }
    }
}

/// The results of audit events since the start.
#[derive(Debug, Default)]
pub struct AuditCounts {
    /// Events that a logger wrote; an event with two loggers counts twice.
    pub written: Counter,
    /// Events that a logger failed to write.
    pub failed: Counter,
    /// Events that found the queue full.
    pub dropped: Counter,
    /// Denials that are only counted in another event, because their principal had too many.
    pub left_out: Counter,
}

impl Audit {
    /// Queues the event of a decision, or only counts it.
    pub(crate) fn record(
        &self,
        policy: &Arc<Policy>,
        caller: Identity<'_>,
        decision: Decision<'_>,
        path: &str,
        id: Uuid,
    ) {
        if policy.audit.loggers.is_empty() {
            return;
        }
        let event = AuditEvent {
            timestamp: base::text::now(),
            rpc_method: path.to_owned(),
            principal: decision.principal.to_owned(),
            policy_name: policy.name().to_owned(),
            matched_rule: decision.rule().unwrap_or_default().to_owned(),
            authorized: decision.is_allowed(),
            decision_id: id,
            left_out: 0,
        };
        let party = (caller.kind(), caller.principal().to_owned());
        let mut event = (Arc::clone(policy), event);
        if !decision.is_allowed() {
            let admitted = lock(&self.denials).admit(&party, event, Instant::now());
            let Some((admitted, left_out)) = admitted else {
                self.counts.left_out.inc();
                return;
            };
            event = admitted;
            event.1.left_out = left_out;
        }
        let writer = self.writer.get_or_init(|| self.start_writer());
        if let Err((_, lost)) = writer.push(Some(party), event) {
            self.drop_one(lost.decision_id);
        }
    }

    /// When no thread can be started, every event is counted as dropped.
    fn start_writer(&self) -> Writer<DeniedPrincipal, QueuedEvent> {
        let sink = AuditWriter {
            denials: self.denials.clone(),
            counts: self.counts.clone(),
        };
        Writer::start("audit", QUEUE, Duration::ZERO, sink).unwrap_or_else(|error| {
            error!(%error, "{}", events::NO_AUDIT_THREAD);
            Writer::closed()
        })
    }

    fn drop_one(&self, id: Uuid) {
        self.counts.dropped.inc();
        warn!(decision_id = %id, "{}", events::AUDIT_EVENT_DROPPED);
    }

    /// The results of the events so far.
    pub fn counts(&self) -> &AuditCounts {
        &self.counts
    }

    /// Blocks until everything queued so far is written, at most for `patience`. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let writer = self.writer.get();
        writer.is_none_or(|writer| writer.flush(patience))
    }
}

fn lock(denials: &Mutex<DenialQuotas>) -> MutexGuard<'_, DenialQuotas> {
    denials.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives events to the loggers of their policies.
struct AuditWriter {
    denials: Arc<Mutex<DenialQuotas>>,
    counts: Arc<AuditCounts>,
}

impl Sink<QueuedEvent> for AuditWriter {
    fn put(&mut self, (policy, event): QueuedEvent) {
        for logger in &policy.audit.loggers {
            match logger.log(&event) {
                Ok(()) => self.counts.written.inc(),
                Err(error) => {
                    error!(%error, ?logger, decision_id = %event.decision_id, "{}", events::AUDIT_EVENT_NOT_WRITTEN);
                    self.counts.failed.inc()
                }
            };
        }
    }

    fn settle(&mut self, all: bool) {
        let due = lock(&self.denials).left_out(all, Instant::now());
        for (_, (policy, mut event), count) in due.parties {
            // It is one of them itself.
            event.left_out = count.saturating_sub(1);
            self.put((policy, event));
        }
        if due.others > 0 {
            warn!(count = due.others, "{}", events::AUDIT_PRINCIPALS_LEFT_OUT);
        }
    }
}
