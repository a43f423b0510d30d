//! Who may occupy a connection, and since when: the caps on sockets before and after they have proved who they are.
//!
//! A flood of silent sockets makes way for newer ones, oldest first, so that it never keeps an honest peer out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::Peer;
use tokio::sync::oneshot;

use crate::limits::Limits;

/// The ledger of one port.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    books: Arc<Mutex<Books>>,
    max_unauthenticated: usize,
    max_unauthenticated_per_ip: usize,
    max_connections_per_peer: usize,
}

#[derive(Debug, Default)]
struct Books {
    next: u64,
    waiting: VecDeque<Newcomer>,
    peers: HashMap<String, usize>,
}

#[derive(Debug)]
struct Newcomer {
    id: u64,
    ip: IpAddr,
    evict: oneshot::Sender<()>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        // Silent sockets that could take every place would keep the port shut until their deadline.
        let half = limits.max_connections / 2;
        Self {
            books: Arc::default(),
            max_unauthenticated: limits.max_unauthenticated.min(half).max(1),
            max_unauthenticated_per_ip: limits.max_unauthenticated_per_ip.max(1),
            max_connections_per_peer: limits.max_connections_per_peer.max(1),
        }
    }

    /// Enters a socket that has proved nothing yet; its place is held until the guard is dropped.
    ///
    /// The receiver resolves when the socket must make way: then it is among the oldest that have proved nothing.
    pub(crate) fn newcomer(&self, ip: IpAddr) -> (Unauthenticated, oneshot::Receiver<()>) {
        let (evict, evicted) = oneshot::channel();
        let ip = origin(ip);
        let mut books = self.books();
        let same_ip = books.waiting.iter().filter(|other| other.ip == ip).count();
        let oldest = if same_ip >= self.max_unauthenticated_per_ip {
            books.waiting.iter().position(|other| other.ip == ip)
        } else if books.waiting.len() >= self.max_unauthenticated {
            Some(0)
        } else {
            None
        };
        if let Some(newcomer) = oldest.and_then(|index| books.waiting.remove(index)) {
            // When it has just finished by itself, nobody hears this.
            newcomer.evict.send(()).ok();
        }
        let id = books.next;
        books.next += 1;
        books.waiting.push_back(Newcomer { id, ip, evict });
        drop(books);
        (
            Unauthenticated {
                admission: self.clone(),
                id,
            },
            evicted,
        )
    }

    /// Enters a connection of `peer`, or gives `None` when it has too many.
    pub(crate) fn peer(&self, peer: &Peer) -> Option<Admitted> {
        let name = peer.to_string();
        let mut books = self.books();
        let count = books.peers.entry(name.clone()).or_default();
        if *count >= self.max_connections_per_peer {
            return None;
        }
        *count += 1;
        drop(books);
        Some(Admitted {
            admission: self.clone(),
            name,
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one party can be told by: its IPv4 address, or the /64 that a network gives to one host (RFC 6177 §2).
fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
    }
}

/// The place of a socket that has proved nothing yet.
#[derive(Debug)]
pub(crate) struct Unauthenticated {
    admission: Admission,
    id: u64,
}

impl Drop for Unauthenticated {
    fn drop(&mut self) {
        self.admission
            .books()
            .waiting
            .retain(|other| other.id != self.id);
    }
}

/// The place of a connection whose peer is known.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    name: String,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut books = self.admission.books();
        if let Some(count) = books.peers.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                books.peers.remove(&self.name);
            }
        }
    }
}
