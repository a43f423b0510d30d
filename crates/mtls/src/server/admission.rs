//! Limits on connections, before and after their peers are authenticated.
//!
//! Unauthenticated sockets are closed for newer ones, those of the addresses with the most sockets first, so that a flood
//! does not keep others out. One identity with many connections cannot take the last places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::Peer;
use tokio::sync::oneshot;

use crate::server::crowd::{Crowd, Place};
use crate::server::limits::Limits;

/// One place in this many is kept for peers that have few connections.
const RESERVE: usize = 4;

/// A peer with less than this part of the connections that it may have has few.
const FEW: usize = 4;

/// The connections of one port.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    crowd: Crowd,
    peers: Arc<Mutex<Peers>>,
    max_connections_per_peer: usize,
    /// From this many connections of known peers on, only a peer that has few gets another.
    open_to_all: usize,
    /// What counts as few.
    few: usize,
}

#[derive(Debug, Default)]
struct Peers {
    all: usize,
    each: HashMap<String, usize>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        // If silent sockets could take every place, the port would be blocked until their deadline.
        let half = limits.max_connections / 2;
        let max_unauthenticated = limits.max_unauthenticated.min(half);
        let max_connections_per_peer = limits.max_connections_per_peer.max(1);
        Self {
            crowd: Crowd::new(max_unauthenticated, limits.max_unauthenticated_per_ip),
            peers: Arc::default(),
            max_connections_per_peer,
            open_to_all: limits.max_connections - limits.max_connections / RESERVE,
            few: (max_connections_per_peer / FEW).max(1),
        }
    }

    /// Takes a place for an unauthenticated socket, until the guard is dropped.
    ///
    /// The receiver resolves when the socket must be closed for a newer one.
    pub(crate) fn newcomer(&self, ip: IpAddr) -> (Place, oneshot::Receiver<()>) {
        self.crowd.enter(ip)
    }

    /// Takes a place for a connection of `peer`, or returns `None` when it has too many.
    pub(crate) fn peer(&self, peer: &Peer) -> Option<Admitted> {
        let name = peer.to_string();
        let mut peers = self.peers();
        let most = if peers.all < self.open_to_all {
            self.max_connections_per_peer
        } else {
            self.few
        };
        let count = peers.each.get(&name).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        peers.each.insert(name.clone(), count + 1);
        peers.all += 1;
        drop(peers);
        Some(Admitted {
            admission: self.clone(),
            name,
        })
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an authenticated connection.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    name: String,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut peers = self.admission.peers();
        peers.all -= 1;
        if let Some(count) = peers.each.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                peers.each.remove(&self.name);
            }
        }
    }
}
