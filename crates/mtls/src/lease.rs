//! A connection's lease: the connection may stay open until a certificate of its verified path expires, is revoked, or
//! loses its root.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::refusal::Refusal;
use crate::trust::snapshot::Snapshot;
use crate::trust::verify::left;

/// How often the clock is looked at when no [`Trust`](crate::Trust) is left that does so.
const WITHOUT_TRUST: Duration = Duration::from_millis(500);

/// The lease of one connection. It is lost when a certificate of the verified path expires, is revoked, or loses its
/// root. Clones share it.
#[derive(Clone, Debug)]
pub struct Lease {
    lost: watch::Receiver<Option<Refusal>>,
}

impl Lease {
    pub(crate) fn new() -> (watch::Sender<Option<Refusal>>, Self) {
        let (lose, lost) = watch::channel(None);
        (lose, Self { lost })
    }

    /// A lease that is never lost, for tests of a service without a connection. Do not use it for anything else.
    pub fn never_lost_for_tests() -> Self {
        Self::new().1
    }

    /// Whether the lease is lost.
    pub fn is_lost(&self) -> bool {
        // The only change is the loss.
        self.lost
            .has_changed()
            .unwrap_or_else(|_over| self.lost.borrow().is_some())
    }

    /// Resolves with the reason when the lease is lost. It does not resolve when the connection ends otherwise.
    pub async fn lost(mut self) -> Refusal {
        loop {
            if let Some(refusal) = self.lost.borrow_and_update().clone() {
                return refusal;
            }
            if self.lost.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Waits until `chain`, accepted so far, is no longer accepted.
///
/// Subscribe `snapshots` before the handshake, so that a change during the handshake is seen.
pub(crate) async fn loss(
    role: Role,
    peer: &Peer,
    chain: &[CertificateDer<'static>],
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> Refusal {
    let mut checked_at = SystemTime::UNIX_EPOCH;
    loop {
        let now = SystemTime::now();
        let left = match left(peer, now) {
            Ok(left) => left,
            Err(refusal) => return refusal,
        };
        let snapshot = snapshots.borrow().clone();
        let stale = snapshot.next_stale_list(checked_at);
        if stale.is_some_and(|stale| stale < now) {
            if let Err(refusal) = snapshot.authorities().judge(role, chain, now) {
                return refusal;
            }
            checked_at = now;
            continue;
        }
        let left = stale
            .and_then(|stale| stale.duration_since(now).ok())
            .map_or(left, |stale| stale.min(left));
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            changed = snapshots.changed() => {
                if changed.is_err() {
                    // Trust was dropped: only the time changes now.
                    tokio::time::sleep(left.min(WITHOUT_TRUST)).await;
                    continue;
                }
                let snapshot = snapshots.borrow_and_update().clone();
                if let Err(refusal) = snapshot.rejudge(role, chain, SystemTime::now()) {
                    return refusal;
                }
            }
        }
    }
}
