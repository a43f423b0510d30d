//! A bounded cache of the results of pure functions.
//!
//! It holds no verdicts: a result depends only on the bytes it was computed from, not on the time, roots,
//! revocation lists or names. Only successful results are kept, so that an unauthenticated peer cannot fill it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::crypto::Digest;

/// Results by the digest of what they were computed from. When one half is full, the other half is dropped, so that
/// entries in use stay.
pub(crate) struct Memo<V> {
    half: usize,
    halves: Mutex<Halves<V>>,
}

struct Halves<V> {
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
}

impl<V: Clone> Memo<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            half: (capacity / 2).max(1),
            halves: Mutex::new(Halves {
                young: HashMap::new(),
                old: HashMap::new(),
            }),
        }
    }

    pub(crate) fn get(&self, key: &Digest) -> Option<V> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = halves.young.get(key) {
            return Some(found.clone());
        }
        let found = halves.old.remove(key)?;
        self.put_young(&mut halves, *key, found.clone());
        Some(found)
    }

    pub(crate) fn put(&self, key: Digest, value: V) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        self.put_young(&mut halves, key, value);
    }

    fn put_young(&self, halves: &mut Halves<V>, key: Digest, value: V) {
        if halves.young.len() >= self.half {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(key, value);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.young.len() + halves.old.len()
    }
}

impl<V> fmt::Debug for Memo<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo")
            .field("half", &self.half)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Memo;
    use crate::crypto::digest;

    #[test]
    fn ten_thousand_findings_take_no_more_place_than_the_bound_and_what_is_in_use_stays() {
        let memo = Memo::new(100);
        let key = |n: u32| digest([&n.to_be_bytes()[..]]);
        memo.put(key(0), 0);
        for n in 1..10_000 {
            memo.put(key(n), n);
            assert_eq!(memo.get(&key(0)), Some(0), "after {n}");
            assert!(memo.len() <= 100, "{} after {n}", memo.len());
        }
        assert_eq!(memo.get(&key(9_999)), Some(9_999));
        assert_eq!(memo.get(&key(1)), None);
    }
}
