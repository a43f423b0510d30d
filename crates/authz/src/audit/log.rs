//! The audit log of gRFC A59: one event per decided RPC, if the policy asks for it.
//!
//! It delays and fails no RPC: events queue for a writer thread, and events that do not fit are counted. The denials of
//! one principal are limited; those left out are a count in a later event.

use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base::queue::FairQueue;
use base::quota::{Quota, Quotas};
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

/// How often to check for denials that were left out and are due.
const LOOK: Duration = Duration::from_secs(1);

/// The queue of events and its writer.
#[derive(Debug, Default)]
pub struct Audit {
    /// Started by the first event, so that a policy without audit costs no thread.
    writer: OnceLock<Option<Arc<AuditShared>>>,
    counts: Arc<AuditCounts>,
}

/// The kind and the name of a caller.
type DeniedPrincipal = (&'static str, String);
type QueuedEvent = (Arc<Policy>, AuditEvent);

#[derive(Debug)]
struct AuditShared {
    state: Mutex<AuditState>,
    wake: Condvar,
}

#[derive(Debug)]
struct AuditState {
    queue: FairQueue<DeniedPrincipal, QueuedEvent>,
    denials: Quotas<DeniedPrincipal, QueuedEvent>,
    /// Senders to notify when all is written.
    flushes: Vec<SyncSender<()>>,
}

impl AuditShared {
    fn state(&self) -> MutexGuard<'_, AuditState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let writer = self
            .writer
            .get_or_init(|| start_writer(Arc::clone(&self.counts)));
        let Some(shared) = writer else {
            self.drop_one(id);
            return;
        };
        let mut state = shared.state();
        let mut event = (Arc::clone(policy), event);
        if !decision.is_allowed() {
            let Some((admitted, left_out)) = state.denials.admit(&party, event, Instant::now())
            else {
                self.counts.left_out.inc();
                return;
            };
            event = admitted;
            event.1.left_out = left_out;
        }
        let idle = state.queue.is_empty();
        let pushed = state.queue.push(Some(party), event);
        drop(state);
        if idle {
            shared.wake.notify_one();
        }
        if let Err((_, lost)) = pushed {
            self.drop_one(lost.decision_id);
        }
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
        let Some(writer) = self.writer.get() else {
            return true;
        };
        let Some(shared) = writer else { return false };
        let (done, written) = mpsc::sync_channel(1);
        let mut state = shared.state();
        // A full queue means that the writer is stuck or far behind: do not wait.
        if state.queue.is_full() {
            return false;
        }
        state.flushes.push(done);
        drop(state);
        shared.wake.notify_one();
        written.recv_timeout(patience).is_ok()
    }
}

/// `None` when no thread can be started; then every event is counted as dropped.
fn start_writer(counts: Arc<AuditCounts>) -> Option<Arc<AuditShared>> {
    let shared = Arc::new(AuditShared {
        state: Mutex::new(AuditState {
            queue: FairQueue::new(QUEUE),
            denials: Quotas::new(DENIALS),
            flushes: Vec::new(),
        }),
        wake: Condvar::new(),
    });
    let seen = Arc::clone(&shared);
    let work = move || work(&seen, &counts);
    match thread::Builder::new().name("audit".to_owned()).spawn(work) {
        Ok(_detached) => Some(shared),
        Err(error) => {
            error!(%error, "{}", events::NO_AUDIT_THREAD);
            None
        }
    }
}

fn work(shared: &AuditShared, counts: &AuditCounts) {
    loop {
        let waiting = |state: &mut AuditState| state.queue.is_empty() && state.flushes.is_empty();
        let (state, _timeout) = shared
            .wake
            .wait_timeout_while(shared.state(), LOOK, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        loop {
            let Some((policy, event)) = shared.state().queue.pop() else {
                break;
            };
            write(&policy, &event, counts);
        }
        let mut state = shared.state();
        let flushes = std::mem::take(&mut state.flushes);
        let due = state.denials.left_out(!flushes.is_empty(), Instant::now());
        drop(state);
        for (_, (policy, mut event), count) in due.parties {
            // It is one of them itself.
            event.left_out = count.saturating_sub(1);
            write(&policy, &event, counts);
        }
        if due.others > 0 {
            warn!(count = due.others, "{}", events::AUDIT_PRINCIPALS_LEFT_OUT);
        }
        for done in flushes {
            // The receiver may have timed out.
            done.try_send(()).ok();
        }
    }
}

fn write(policy: &Policy, event: &AuditEvent, counts: &AuditCounts) {
    for logger in &policy.audit.loggers {
        let counter = match logger.log(event) {
            Ok(()) => &counts.written,
            Err(error) => {
                error!(%error, ?logger, decision_id = %event.decision_id, "{}", events::AUDIT_EVENT_NOT_WRITTEN);
                &counts.failed
            }
        };
        counter.inc();
    }
}
