//! The results of the last calls of a connection, and whether the connection is avoided because of them.
//!
//! A server that fails at once looks idle, so by load alone it would get every call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// After this many failures in a row a connection is avoided.
const FAILURES: u32 = 5;

/// For how long it is avoided at first; each failed probe doubles the time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The results of the last calls of one connection.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<CallResults>);

#[derive(Debug, Default)]
struct CallResults {
    failures: u32,
    ejected: Option<Ejected>,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    until: Instant,
    pause: Duration,
}

impl Record {
    /// Records whether a call was served.
    pub(crate) fn observe(&self, served: bool) {
        let mut state = self.state();
        if served {
            *state = CallResults::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures == FAILURES {
            state.ejected = Some(Ejected {
                until: Instant::now() + FIRST_PAUSE,
                pause: FIRST_PAUSE,
            });
        }
    }

    /// Whether it may get calls.
    pub(crate) fn is_good(&self) -> bool {
        self.state().ejected.is_none()
    }

    /// Whether this call is a probe. Until its result is known, there is no other probe.
    pub(crate) fn is_to_be_probed(&self) -> bool {
        let mut state = self.state();
        match &mut state.ejected {
            Some(ejected) if ejected.until <= Instant::now() => {
                ejected.pause = (ejected.pause * 2).min(LONGEST_PAUSE);
                ejected.until = Instant::now() + ejected.pause;
                true
            }
            Some(_) | None => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, CallResults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_calls_all_fail_is_left_alone_and_then_probed_by_one_call() {
        let record = Record::default();
        for _ in 0..FAILURES - 1 {
            record.observe(false);
        }
        record.observe(true);
        record.observe(false);
        assert!(record.is_good(), "something was served between");
        for _ in 0..FAILURES {
            record.observe(false);
        }
        assert!(!record.is_good() && !record.is_to_be_probed());
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(record.is_to_be_probed(), "its time has come");
        assert!(!record.is_to_be_probed(), "one call is enough");
        record.observe(false);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(!record.is_to_be_probed(), "the pause has doubled");
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(record.is_to_be_probed());
        record.observe(true);
        assert!(record.is_good());
    }
}
