//! What may end a call early: the policy, the connection's lease, the drain, and the deadlines.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use authz::{Allowed, Gate, Head};
use mtls::Lease;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::codes::DRAINING;
use crate::server::exceeded::{ERROR_DOMAIN, Exceeded};

/// When a drain begins, streams that only the server can end are ended within this time, spread out, so that their
/// callers do not reconnect to other servers all at once.
const DRAIN_SPREAD: Duration = Duration::from_secs(1);

/// What may end a call early.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) gate: Arc<Gate>,
    /// The policy that allowed it, and its request head; `None` when it was refused.
    pub(crate) allowed: Option<(Allowed, Head)>,
    pub(crate) lease: Lease,
    pub(crate) limit: Duration,
    pub(crate) first_message: Duration,
    /// Of a stream that only the server can end.
    pub(crate) draining: Option<watch::Receiver<bool>>,
}

/// Whether the handler waits for the first message of the request.
#[derive(Debug, Default)]
pub(crate) struct FirstMessage {
    /// It has arrived, or nothing waits for it any more.
    has_come: AtomicBool,
    /// Since when the handler waits. A handler that has not read yet is not kept waiting by its caller.
    awaited: OnceLock<Instant>,
}

impl FirstMessage {
    pub(crate) fn came(&self) {
        self.has_come.store(true, Ordering::Release);
    }

    pub(crate) fn awaits(&self) {
        if !self.has_come() {
            self.awaited.get_or_init(Instant::now);
        }
    }

    fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }
}

impl Ends {
    /// Whether one of them may have occurred, for a call that did not wait for them.
    pub(crate) fn may_have_come(&self, began: Instant) -> bool {
        let is_current = |(allowed, _): &(Allowed, Head)| self.gate.is_current(allowed);
        self.lease.is_lost()
            || !self.allowed.as_ref().is_none_or(is_current)
            || began.elapsed() >= self.limit
    }

    /// Whether the policy or the deadline has ended the call.
    pub(crate) fn have_come(&self, began: Instant) -> bool {
        let is_allowed = |(allowed, head): &(Allowed, Head)| self.gate.still_allows(allowed, head);
        began.elapsed() >= self.limit || !self.allowed.as_ref().is_none_or(is_allowed)
    }

    /// Resolves with the status that ends the call, when one of them occurs.
    pub(crate) async fn come(&self, began: Instant, first_message: &FirstMessage) -> Status {
        let refused = async {
            match &self.allowed {
                Some((allowed, head)) => self.gate.refused(allowed, head).await,
                None => pending().await,
            }
        };
        let late = async {
            let mut since = began;
            loop {
                after(since, self.first_message).await;
                if first_message.has_come() {
                    pending::<()>().await;
                }
                match first_message.awaited.get().copied() {
                    Some(awaited) if awaited == since => return,
                    awaited => since = awaited.unwrap_or_else(Instant::now),
                }
            }
        };
        tokio::select! {
            biased;
            refusal = self.lease.clone().lost() => lease_lost(&refusal),
            refusal = refused => refusal,
            status = drained(self.draining.clone()) => status,
            () = late => Exceeded::FirstMessageTooSlow { limit: self.first_message }.into(),
            () = after(began, self.limit) => {
                Status::deadline_exceeded("the call took longer than its deadline allows")
            }
        }
    }
}

/// Ends a stream some time after the drain has begun.
async fn drained(draining: Option<watch::Receiver<bool>>) -> Status {
    let begun = match draining {
        Some(mut draining) => draining.wait_for(|draining| *draining).await.is_ok(),
        None => false,
    };
    if !begun {
        pending::<()>().await;
    }
    sleep(DRAIN_SPREAD.mul_f64(fastrand::f64())).await;
    let details = ErrorDetails::with_error_info(DRAINING, ERROR_DOMAIN, []);
    let text = "the server is stopping; call again, and another one answers";
    Status::with_error_details(Code::Unavailable, text, details)
}

async fn after(began: Instant, limit: Duration) {
    match began.checked_add(limit) {
        // A timer fires at a whole millisecond, and until then a call would run.
        Some(due) if due <= Instant::now() => {}
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

fn lease_lost(refusal: &mtls::Refusal) -> Status {
    let details = ErrorDetails::with_error_info(refusal.code(), mtls::ERROR_DOMAIN, []);
    let text = format!("the certificate of this connection is no longer accepted: {refusal}");
    Status::with_error_details(Code::Unauthenticated, text, details)
}
