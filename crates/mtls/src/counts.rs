//! What became of handshakes, connections and reloads under one set of live credentials, in numbers.
//!
//! Never the name of a peer: what tells two numbers apart is a word of ours or a root that the operator configured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::metrics::CountBy;
use base::reload::Input;
use identity::Peer;
use prometheus_client::metrics::counter::Counter;

/// The numbers of one [`Trust`].
#[derive(Debug, Default)]
pub(crate) struct TransportCounts {
    /// Handshakes that gave a peer.
    pub(crate) accepted: Counter,
    /// Handshakes, and on the client's side attempts to connect, that came to nothing.
    pub(crate) refused: CountBy,
    /// Sockets that the system could not give us.
    pub(crate) unaccepted: Counter,
    /// Connections of known peers that a limit turned away.
    pub(crate) shed: CountBy,
    /// Calls that were sent again because they were provably not processed.
    pub(crate) resent: Counter,
    /// What became of reading the credentials.
    pub(crate) input: Arc<Input>,
    pub(crate) ended: CountBy,
    live: Mutex<BTreeMap<RootName, u64>>,
}

/// A root by its subject and its SHA-256 digest: during a roll-over two may have one name.
type RootName = (String, [u8; 32]);

impl TransportCounts {
    /// Counts a connection as live until the guard goes.
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

/// The place of a live connection. One that goes without a reason was cut.
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
