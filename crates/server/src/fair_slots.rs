//! Slots that callers share. A caller that holds as many as are free gets no more, so it has half of them at most, and
//! something is left for the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Slots, and who holds how many.
#[derive(Clone, Debug)]
pub(crate) struct FairSlots(Arc<Mutex<Slots>>);

#[derive(Debug)]
struct Slots {
    free: usize,
    held: HashMap<Arc<str>, usize>,
}

/// A slot, until this is dropped.
#[derive(Debug)]
pub(crate) struct FairSlot {
    slots: FairSlots,
    caller: Arc<str>,
}

impl FairSlots {
    pub(crate) fn new(all: usize) -> Self {
        Self(Arc::new(Mutex::new(Slots {
            free: all,
            held: HashMap::new(),
        })))
    }

    /// A slot, unless the caller has its share already.
    pub(crate) fn take(&self, caller: &Arc<str>) -> Option<FairSlot> {
        let mut slots = self.lock();
        let held = slots.held.get(caller).copied().unwrap_or_default();
        if held >= slots.free {
            return None;
        }
        slots.free -= 1;
        slots.held.insert(caller.clone(), held + 1);
        Some(FairSlot {
            slots: self.clone(),
            caller: caller.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        slots.free += 1;
        if let Some(held) = slots.held.get_mut(&self.caller) {
            *held -= 1;
            if *held == 0 {
                slots.held.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_its_share_and_something_is_left_for_the_next() {
        let slots = FairSlots::new(16);
        let callers: Vec<Arc<str>> = ["a", "b", "c", "d", "e", "f"].map(Arc::from).to_vec();
        let all_of =
            |caller: &Arc<str>| -> Vec<_> { std::iter::from_fn(|| slots.take(caller)).collect() };
        let held: Vec<_> = callers.iter().map(all_of).collect();
        let shares: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(shares, [8, 4, 2, 1, 1, 0]);
        drop(held);
        assert_eq!(all_of(&callers[5]).len(), 8);
        assert!(slots.lock().held.is_empty());
    }
}
