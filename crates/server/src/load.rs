//! How many calls may be open at once: in all, and of one identity, so that none can take every place.
//!
//! Never a queue: a call that finds no place is turned away at once, and told when to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use identity::{Peer, Principal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// The places for calls of one port.
#[derive(Debug)]
pub(crate) struct Load {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Mutex<HashMap<Principal, Weak<Semaphore>>>,
}

/// The places that the calls of one identity compete for, over all of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// The place of one call, until it ends.
#[derive(Debug)]
pub(crate) struct Place {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Load {
    pub(crate) fn new(all: usize, per_peer: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            per_peer: per_peer.min(Semaphore::MAX_PERMITS),
            peers: Mutex::default(),
        }
    }

    /// The places of a connection of `peer`. Identities without a connection are forgotten.
    pub(crate) fn caller(&self, peer: &Peer) -> Places {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let name = peer.principal();
        let own = peers.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            peers.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(self.per_peer));
            peers.insert(name, Arc::downgrade(&own));
            own
        });
        Places {
            all: self.all.clone(),
            own,
        }
    }
}

impl Places {
    /// A place, if there is one.
    pub(crate) fn take(&self) -> Result<Place, Refusal> {
        let own = self.own.clone().try_acquire_owned();
        let own = own.map_err(|_full| Refusal::CallerBusy)?;
        let all = self.all.clone().try_acquire_owned();
        let all = all.map_err(|_full| Refusal::ServerBusy)?;
        Ok(Place {
            _all: all,
            _own: own,
        })
    }
}
