//! How long a connection may live on the proof that it began with: until a certificate of its verified path expires,
//! is revoked, or loses its root.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::refusal::Refusal;
use crate::trust::snapshot::Snapshot;

/// A wall clock may be set while we sleep by the monotonic one, so no sleep is longer than this.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// The right of one connection to go on. Clones share it.
#[derive(Clone, Debug)]
pub struct Lease {
    lost: watch::Receiver<Option<Refusal>>,
}

impl Lease {
    pub(crate) fn new() -> (watch::Sender<Option<Refusal>>, Self) {
        let (lose, lost) = watch::channel(None);
        (lose, Self { lost })
    }

    /// One that is never lost, for a service that is tested without a wire. Nothing else may have it.
    pub fn never_lost_for_tests() -> Self {
        Self::new().1
    }

    /// Whether the connection has lost its authority.
    pub fn is_lost(&self) -> bool {
        // What was not seen yet is the loss: there is no other change.
        self.lost
            .has_changed()
            .unwrap_or_else(|_over| self.lost.borrow().is_some())
    }

    /// Resolves when the connection has lost its authority, with the reason; never when it ends otherwise.
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

/// Waits for the moment when `chain`, believed until now, no longer is.
///
/// `snapshots` must come from before the handshake: a change that happened meanwhile is then seen here at once.
pub(crate) async fn loss(
    role: Role,
    peer: &Peer,
    chain: &[CertificateDer<'static>],
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> Refusal {
    let mut judged = SystemTime::UNIX_EPOCH;
    loop {
        let now = SystemTime::now();
        let Ok(left) = peer.not_after().duration_since(now) else {
            return Refusal::Expired {
                not_after: peer.not_after(),
            };
        };
        if now < peer.not_before() {
            return Refusal::NotYetValid {
                not_before: peer.not_before(),
            };
        }
        let snapshot = snapshots.borrow().clone();
        let stale = snapshot.next_stale_list(judged);
        if stale.is_some_and(|stale| stale < now) {
            if let Err(refusal) = snapshot.authorities().peer_of(role, chain, now) {
                return refusal;
            }
            judged = now;
            continue;
        }
        let left = stale
            .and_then(|stale| stale.duration_since(now).ok())
            .map_or(left, |stale| stale.min(left))
            .min(MAX_SLEEP);
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            changed = snapshots.changed() => {
                if changed.is_err() {
                    // Trust was dropped, so nothing more will change but the time.
                    tokio::time::sleep(left).await;
                    continue;
                }
                let snapshot = snapshots.borrow_and_update().clone();
                if let Err(refusal) = snapshot.rejudge(role, chain) {
                    return refusal;
                }
            }
        }
    }
}
