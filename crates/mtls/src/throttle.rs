//! Says things at a bounded rate, so that an attack fills a counter and not a disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets `per_second` events of each second through and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    second: Instant,
    said: u32,
    suppressed: u64,
}

impl Throttle {
    pub(crate) fn new(per_second: u32) -> Self {
        let state = State {
            second: Instant::now(),
            said: 0,
            suppressed: 0,
        };
        Self {
            per_second,
            state: Mutex::new(state),
        }
    }

    /// Calls `say` with the number of events that were suppressed since the last one, or suppresses this one.
    pub(crate) fn say(&self, say: impl FnOnce(u64)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.second.elapsed() >= Duration::from_secs(1) {
            state.second = Instant::now();
            state.said = 0;
        }
        if state.said >= self.per_second {
            state.suppressed += 1;
            return;
        }
        state.said += 1;
        let suppressed = std::mem::take(&mut state.suppressed);
        drop(state);
        say(suppressed);
    }
}
