//! Counts of handshakes, connections and reloads under one set of live credentials.
//!
//! No label is a peer's name: labels are constants of this crate and the configured roots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::metrics::CountBy;
use base::reload::Input;
use identity::Peer;
use prometheus_client::metrics::counter::Counter;

/// The counts of one [`Trust`].
#[derive(Debug, Default)]
pub(crate) struct TransportCounts {
    /// Handshakes that succeeded.
    pub(crate) accepted: Counter,
    /// Handshakes, and on the client's side connection attempts, that failed.
    pub(crate) refused: CountBy,
    /// Sockets that the system could not accept.
    pub(crate) unaccepted: Counter,
    /// Connections of verified peers that a limit refused.
    pub(crate) shed: CountBy,
    /// Calls that were sent again because they were provably not processed.
    pub(crate) resent: Counter,
    /// The results of reading the credentials.
    pub(crate) input: Arc<Input>,
    pub(crate) ended: CountBy,
    live: Mutex<BTreeMap<RootName, u64>>,
}

/// A root by its subject and its SHA-256 digest: during a rollover two may have the same name.
type RootName = (String, [u8; 32]);

impl TransportCounts {
    /// Counts a connection as live until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>, peer: &Peer) -> CountedConnection {
        let root = (peer.root_subject().to_owned(), *peer.root_fingerprint());
        *self.live().entry(root.clone()).or_default() += 1;
        CountedConnection {
            counts: self.clone(),
            root,
            reason: "CUT",
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, BTreeMap<RootName, u64>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a live connection. If it is dropped without a reason, the connection was cut.
#[derive(Debug)]
pub(crate) struct CountedConnection {
    counts: Arc<TransportCounts>,
    root: RootName,
    reason: &'static str,
}

impl CountedConnection {
    pub(crate) fn end(mut self, reason: &'static str) {
        self.reason = reason;
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.counts.ended.add(self.reason);
        let mut live = self.counts.live();
        if let Some(count) = live.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.root);
            }
        }
    }
}
