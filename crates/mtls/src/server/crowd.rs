//! Unauthenticated sockets, and which of them is closed for a new one when there is no place left.
//!
//! A new socket is always admitted. The one that is closed belongs to the address with the most places, so an address
//! with less than its share loses none. Of that address, sockets that sent nothing go first, and then the oldest.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places of one port. Clones share them.
#[derive(Clone, Debug)]
pub struct Crowd {
    books: Arc<Mutex<Books>>,
    max: usize,
    max_per_address: usize,
}

#[derive(Debug, Default)]
struct Books {
    next: u64,
    taken: usize,
    /// The sockets of each address, oldest first. None is empty.
    addresses: HashMap<IpAddr, VecDeque<Socket>>,
}

#[derive(Debug)]
struct Socket {
    id: u64,
    spoke: bool,
    evict: oneshot::Sender<()>,
}

impl Crowd {
    /// Of `max` places, of which one address gets `max_per_address` at most; each at least 1.
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            books: Arc::default(),
            max: max.max(1),
            max_per_address: max_per_address.max(1),
        }
    }

    /// Takes a place for a socket from `ip`. It is held until the place is dropped.
    ///
    /// The receiver resolves when the socket must make way.
    pub fn enter(&self, ip: IpAddr) -> (Place, oneshot::Receiver<()>) {
        let (evict, evicted) = oneshot::channel();
        let origin = origin(ip);
        let mut books = self.books();
        let own = books.addresses.get(&origin).map_or(0, VecDeque::len);
        if own >= self.max_per_address {
            books.evict_from(origin);
        } else if books.taken >= self.max
            && let Some(heaviest) = books.heaviest(origin)
        {
            books.evict_from(heaviest);
        }
        let id = books.next;
        books.next += 1;
        books.taken += 1;
        books
            .addresses
            .entry(origin)
            .or_default()
            .push_back(Socket {
                id,
                spoke: false,
                evict,
            });
        drop(books);
        let place = Place {
            crowd: self.clone(),
            origin,
            id,
        };
        (place, evicted)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The address that holds most, with one more for that of the newcomer; of several, one with a socket that sent
    /// nothing, and of these the one whose socket is the oldest.
    fn heaviest(&self, newcomer: IpAddr) -> Option<IpAddr> {
        let rank = |ip: &IpAddr, sockets: &VecDeque<Socket>| {
            let first = sockets.get(first_to_go(sockets))?;
            let count = sockets.len() + usize::from(*ip == newcomer);
            Some((count, !first.spoke, Reverse(first.id)))
        };
        let addresses = self.addresses.iter();
        let heaviest = addresses.max_by_key(|(ip, sockets)| rank(ip, sockets));
        heaviest.map(|(ip, _)| *ip)
    }

    fn evict_from(&mut self, ip: IpAddr) {
        let Some(sockets) = self.addresses.get_mut(&ip) else {
            return;
        };
        let gone = sockets.remove(first_to_go(sockets));
        if sockets.is_empty() {
            self.addresses.remove(&ip);
        }
        if let Some(gone) = gone {
            self.taken -= 1;
            // The receiver is gone if the socket has just finished.
            gone.evict.send(()).ok();
        }
    }

    fn remove(&mut self, ip: IpAddr, id: u64) {
        let Some(sockets) = self.addresses.get_mut(&ip) else {
            return;
        };
        let before = sockets.len();
        sockets.retain(|socket| socket.id != id);
        self.taken -= before - sockets.len();
        if sockets.is_empty() {
            self.addresses.remove(&ip);
        }
    }
}

/// The oldest socket that sent nothing, or else the oldest.
fn first_to_go(sockets: &VecDeque<Socket>) -> usize {
    let silent = sockets.iter().position(|socket| !socket.spoke);
    silent.unwrap_or(0)
}

/// What one party can be told by: its IPv4 address, or the /64 that a network gives to one host (RFC 6177 §2).
fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
    }
}

/// The place of one socket.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    origin: IpAddr,
    id: u64,
}

impl Place {
    /// Notes that the socket has sent something, so that silent ones of its address go before it.
    pub fn spoke(&self) {
        let mut books = self.crowd.books();
        if let Some(sockets) = books.addresses.get_mut(&self.origin)
            && let Some(own) = sockets.iter_mut().find(|socket| socket.id == self.id)
        {
            own.spoke = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.books().remove(self.origin, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entry = (Place, oneshot::Receiver<()>);

    fn enter(crowd: &Crowd, ip: &str) -> Entry {
        crowd.enter(ip.parse().unwrap())
    }

    fn is_evicted((_, evicted): &mut Entry) -> bool {
        evicted.try_recv().is_ok()
    }

    fn evicted(sockets: &mut [Entry]) -> Vec<usize> {
        let all = sockets.iter_mut().enumerate();
        all.filter_map(|(n, socket)| is_evicted(socket).then_some(n))
            .collect()
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_address_that_holds_most() {
        let crowd = Crowd::new(6, 6);
        let mut honest = enter(&crowd, "10.0.0.1");
        let mut few = [enter(&crowd, "10.0.0.2"), enter(&crowd, "10.0.0.2")];
        let mut many: Vec<_> = (0..3).map(|_| enter(&crowd, "10.0.0.3")).collect();
        // A flood from one address pushes out its own, however long it goes on.
        many.extend((0..1_000).map(|_| enter(&crowd, "10.0.0.3")));
        assert_eq!(evicted(&mut many), (0..1_000).collect::<Vec<_>>());
        let mut another = enter(&crowd, "10.0.0.1");
        assert_eq!(evicted(&mut many), [1_000]);
        assert!(![&mut honest, &mut another].into_iter().any(is_evicted));
        assert_eq!(evicted(&mut few), [0_usize; 0]);
    }

    #[test]
    fn of_one_address_those_that_sent_nothing_go_first_and_then_the_oldest() {
        let crowd = Crowd::new(100, 3);
        let mut sockets: Vec<_> = (0..3).map(|_| enter(&crowd, "10.0.0.1")).collect();
        sockets[0].0.spoke();
        sockets.push(enter(&crowd, "10.0.0.1"));
        assert_eq!(evicted(&mut sockets), [1]);
        for (place, _) in &sockets {
            place.spoke();
        }
        sockets.push(enter(&crowd, "10.0.0.1"));
        assert_eq!(evicted(&mut sockets), [0]);
    }

    #[test]
    fn of_addresses_that_hold_one_each_the_silent_one_goes_first_and_then_the_oldest() {
        let crowd = Crowd::new(3, 3);
        let ips = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        let mut sockets: Vec<_> = ips.iter().map(|ip| enter(&crowd, ip)).collect();
        sockets[0].0.spoke();
        sockets.push(enter(&crowd, "10.0.0.4"));
        assert_eq!(evicted(&mut sockets), [1]);
        for (place, _) in &sockets {
            place.spoke();
        }
        // The newcomer has sent nothing yet, and is not the one to go all the same.
        sockets.push(enter(&crowd, "10.0.0.5"));
        assert_eq!(evicted(&mut sockets), [0]);
    }

    #[test]
    fn a_place_is_free_when_it_is_dropped() {
        let crowd = Crowd::new(2, 2);
        let mut kept = enter(&crowd, "10.0.0.1");
        for _ in 0..100 {
            drop(enter(&crowd, "10.0.0.2"));
        }
        assert!(!is_evicted(&mut kept));
        drop(kept);
        let books = crowd.books();
        assert_eq!((books.taken, books.addresses.len()), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_party_and_ipv4_is_told_in_either_form() {
        let same =
            |one: &str, other: &str| origin(one.parse().unwrap()) == origin(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
