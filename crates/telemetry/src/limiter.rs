//! Warnings at a bounded rate, so that an attack fills a counter and not a disk.
//!
//! Never an error that is not told: those are our own, and each is about something else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// How many warnings one place in the code writes in a second.
const PER_SECOND: u32 = 10;

/// Lines that were not written, in this process.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Knows what each place in the code has said in the current second.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<HashMap<Identifier, Said>>);

#[derive(Debug)]
struct Said {
    second: Instant,
    lines: u32,
    suppressed: u64,
}

impl Limiter {
    /// How many warnings of this place were suppressed since its last one, or `None` when this one is. What is no
    /// warning is always admitted.
    pub(crate) fn admit(&self, place: &Metadata<'_>) -> Option<u64> {
        if *place.level() != Level::WARN {
            return Some(0);
        }
        self.at(place.callsite(), Instant::now())
    }

    fn at(&self, place: Identifier, now: Instant) -> Option<u64> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = places.entry(place).or_insert(Said {
            second: now,
            lines: 0,
            suppressed: 0,
        });
        if now.duration_since(said.second) >= Duration::from_secs(1) {
            (said.second, said.lines) = (now, 0);
        }
        if said.lines >= PER_SECOND {
            said.suppressed += 1;
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite;

    use super::*;

    struct Place;

    impl callsite::Callsite for Place {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("the limiter asks for nothing but the identity")
        }
    }

    static PLACE: Place = Place;

    #[test]
    fn a_place_that_says_too_much_is_quiet_for_a_second_and_then_says_how_much_it_kept() {
        let limiter = Limiter::default();
        // Made once, as that of a real place: it is hashed with its vtable.
        let place = Identifier(&PLACE);
        let begin = Instant::now();
        let admitted = (0..100)
            .filter(|_| limiter.at(place.clone(), begin).is_some())
            .count();
        assert_eq!(admitted, 10);
        let later = begin + Duration::from_secs(1);
        assert_eq!(limiter.at(place.clone(), later), Some(90));
        assert_eq!(limiter.at(place, later), Some(0));
    }
}
