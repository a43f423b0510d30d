//! A bounded queue that shares its places between parties when its reader is slow, and prefers our own items.
//!
//! It never waits: an item that finds no place is returned.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Up to this many items in all, ours keep their order among the others.
const BACKLOG: usize = 64;

/// A bounded queue in which one party cannot take all places.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    capacity: usize,
    next: u64,
    ours: VecDeque<(u64, T)>,
    others: VecDeque<(u64, K, T)>,
    held: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue for `max` items.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            next: 0,
            ours: VecDeque::new(),
            others: VecDeque::new(),
            held: HashMap::new(),
        }
    }

    /// Adds an item of `party`, or one of our own. When the queue is full, the newest item of the party that holds the
    /// most places makes room, unless that is this party.
    ///
    /// # Errors
    /// The item that found no place: this one, or the one that made room for it.
    pub fn push(&mut self, party: Option<K>, item: T) -> Result<(), T> {
        let mut out = None;
        if self.len() >= self.capacity {
            match self.make_way(party.as_ref()) {
                Some(other) => out = Some(other),
                None => return Err(item),
            }
        }
        let number = self.next;
        self.next += 1;
        match party {
            None => self.ours.push_back((number, item)),
            Some(party) => {
                *self.held.entry(party.clone()).or_default() += 1;
                self.others.push_back((number, party, item));
            }
        }
        out.map_or(Ok(()), Err)
    }

    /// The next item: the oldest, or with a backlog our own oldest.
    pub fn pop(&mut self) -> Option<T> {
        let other = self.others.front().map_or(u64::MAX, |(number, ..)| *number);
        let ours_first = |(number, _): &(u64, T)| *number < other || self.others.len() > BACKLOG;
        if self.ours.front().is_some_and(ours_first) {
            return self.ours.pop_front().map(|(_, item)| item);
        }
        let (_, party, item) = self.others.pop_front()?;
        self.let_go(&party);
        Some(item)
    }

    /// How many items are queued.
    pub fn len(&self) -> usize {
        self.ours.len() + self.others.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the queue is full.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    fn make_way(&mut self, party: Option<&K>) -> Option<T> {
        let (loudest, most) = self.held.iter().max_by_key(|(_, held)| **held)?;
        let own = party.map_or(0, |party| {
            self.held.get(party).copied().unwrap_or_default() + 1
        });
        if own >= *most && party.is_some() {
            return None;
        }
        let loudest = loudest.clone();
        let at = self.others.iter().rposition(|(_, it, _)| *it == loudest)?;
        let (_, _, item) = self.others.remove(at)?;
        self.let_go(&loudest);
        Some(item)
    }

    fn let_go(&mut self, party: &K) {
        if let Some(held) = self.held.get_mut(party) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut FairQueue<&str, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_loud_party_makes_way_for_a_quiet_one_and_everybody_for_us() {
        let mut queue = FairQueue::new(4);
        for n in 0..4 {
            queue.push(Some("loud"), n).unwrap();
        }
        assert_eq!(queue.push(Some("loud"), 4), Err(4));
        assert_eq!(queue.push(Some("quiet"), 10), Err(3));
        assert_eq!(queue.push(None, 20), Err(2));
        assert_eq!(queue.push(Some("loud"), 5), Err(5));
        assert_eq!(all(&mut queue), [0, 1, 10, 20]);
        for n in 0..4 {
            queue.push(None, n).unwrap();
        }
        assert_eq!(queue.push(None, 4), Err(4));
        assert_eq!(queue.push(Some("quiet"), 5), Err(5));
        assert_eq!(all(&mut queue), [0, 1, 2, 3]);
    }

    #[test]
    fn ours_are_before_a_backlog_of_others_and_else_in_their_order() {
        let mut queue = FairQueue::new(1_000);
        queue.push(Some("a"), 0).unwrap();
        queue.push(None, 1).unwrap();
        queue.push(Some("b"), 2).unwrap();
        assert_eq!(all(&mut queue), [0, 1, 2]);
        for n in 0..100 {
            queue.push(Some("a"), n).unwrap();
        }
        queue.push(None, 1_000).unwrap();
        assert_eq!(queue.pop(), Some(1_000));
        assert_eq!(queue.pop(), Some(0));
    }
}
