//! How many calls may be open at once: in all, and of one identity, so that none can take every place.
//!
//! Never a queue: a call that finds no place is turned away at once, and told when to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use identity::Peer;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of the reasons in `google.rpc.ErrorInfo` that come from a server's limits.
pub const ERROR_DOMAIN: &str = "server.countersign";

/// How long a caller that was turned away should wait: this, and up to as long again, so that not all come back at once.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Why there is no place for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Busy {
    #[error("the server has as many calls open as it takes")]
    Server,
    #[error("this caller has as many calls open as one may have")]
    Caller,
}

impl Busy {
    /// The stable name of this reason, as docs/errors.md lists it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Server => "SERVER_BUSY",
            Self::Caller => "CALLER_BUSY",
        }
    }
}

impl From<Busy> for Status {
    fn from(busy: Busy) -> Self {
        let mut details = ErrorDetails::with_error_info(busy.reason(), ERROR_DOMAIN, []);
        details.set_retry_info(Some(RETRY_DELAY.mul_f64(1.0 + fastrand::f64())));
        Self::with_error_details(Code::ResourceExhausted, busy.to_string(), details)
    }
}

/// The places for calls of one port.
#[derive(Debug)]
pub(crate) struct Load {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Mutex<HashMap<String, Weak<Semaphore>>>,
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
        let name = peer.to_string();
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
    pub(crate) fn take(&self) -> Result<Place, Busy> {
        let own = self.own.clone().try_acquire_owned();
        let own = own.map_err(|_full| Busy::Caller)?;
        let all = self.all.clone().try_acquire_owned();
        let all = all.map_err(|_full| Busy::Server)?;
        Ok(Place {
            _all: all,
            _own: own,
        })
    }
}
