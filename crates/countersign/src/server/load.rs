//! Limits on open calls, in total and per identity, so that a few identities cannot take all slots.
//! The last quarter of the slots is reserved for identities that hold few.
//!
//! Calls do not queue: one over the limit is refused at once, with the time after which to retry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use identity::{Peer, Principal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::exceeded::Exceeded;

/// One slot in this many is reserved for identities that hold few.
const RESERVE: usize = 4;

/// An identity holds few if it has less than this part of the slots that it may have.
const FEW: usize = 4;

/// The slots for calls of one port.
#[derive(Debug)]
pub(crate) struct Load {
    all: Arc<Semaphore>,
    reserve: usize,
    per_peer: usize,
    peers: Mutex<HashMap<Principal, Weak<Semaphore>>>,
}

/// The slots for the calls of one identity, over all of its connections.
#[derive(Clone, Debug)]
pub(crate) struct CallSlots {
    all: Arc<Semaphore>,
    reserve: usize,
    own: Arc<Semaphore>,
    /// With this many slots or more, it gets none of the reserve.
    few: usize,
    per_peer: usize,
}

/// The slot of one call, until it ends.
#[derive(Debug)]
pub(crate) struct CallSlot {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Load {
    pub(crate) fn new(all: usize, per_peer: usize) -> Self {
        let all = all.min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(all)),
            reserve: all / RESERVE,
            per_peer: per_peer.min(Semaphore::MAX_PERMITS),
            peers: Mutex::default(),
        }
    }

    /// The slots for a connection of `peer`. Identities without a connection are dropped.
    pub(crate) fn caller(&self, peer: &Peer) -> CallSlots {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let name = peer.principal();
        let own = peers.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            peers.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(self.per_peer));
            peers.insert(name, Arc::downgrade(&own));
            own
        });
        CallSlots {
            all: self.all.clone(),
            reserve: self.reserve,
            own,
            few: (self.per_peer / FEW).max(1),
            per_peer: self.per_peer,
        }
    }
}

impl CallSlots {
    /// A slot, if one is free.
    pub(crate) fn take(&self) -> Result<CallSlot, Exceeded> {
        let own = self.own.clone().try_acquire_owned();
        let own = own.map_err(|_full| Exceeded::CallerBusy)?;
        // The one that was just taken is not counted.
        let held = self.per_peer - self.own.available_permits() - 1;
        if held >= self.few && self.all.available_permits() <= self.reserve {
            return Err(Exceeded::CallerBusy);
        }
        let all = self.all.clone().try_acquire_owned();
        let all = all.map_err(|_full| Exceeded::ServerBusy)?;
        Ok(CallSlot {
            _all: all,
            _own: own,
        })
    }
}
