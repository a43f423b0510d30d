//! Limits how much is logged about one party: a burst, then a rate. What exceeds it is counted.
//!
//! No party disappears from the log: what was left out is reported as a count, with its last item.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// After this time, what was left out is reported.
const REPORT: Duration = Duration::from_secs(10);

/// How much each party may log.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// The burst of a party that was quiet.
    pub burst: u32,
    /// Then one in this time.
    pub refill: Duration,
    /// Parties that are counted separately. While this many have items left out, those of further parties are counted
    /// together.
    pub parties: usize,
}

/// What was admitted of each party.
#[derive(Debug)]
pub struct Quotas<K, T> {
    quota: Quota,
    parties: HashMap<K, PartyQuota<T>>,
    others: u64,
}

#[derive(Debug)]
struct PartyQuota<T> {
    tokens: u32,
    refilled: Instant,
    left_out: u64,
    last: Option<(T, Instant)>,
}

/// What was left out and not reported yet.
#[derive(Debug)]
pub struct LeftOut<K, T> {
    /// The last item of each party, and how many were left out with it.
    pub parties: Vec<(K, T, u64)>,
    /// How many items of further parties, which are counted together.
    pub others: u64,
}

impl<K: Clone + Eq + Hash, T> Quotas<K, T> {
    /// No party yet.
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            parties: HashMap::new(),
            others: 0,
        }
    }

    /// Returns `item` if it may be logged, with the number of items before it that were left out; otherwise keeps it.
    pub fn admit(&mut self, key: &K, item: T, now: Instant) -> Option<(T, u64)> {
        let Quota {
            burst,
            refill,
            parties,
        } = self.quota;
        if !self.parties.contains_key(key) && self.parties.len() >= parties {
            let quiet = self.parties.iter().filter(|(_, it)| it.left_out == 0);
            let oldest = quiet.min_by_key(|(_, it)| it.refilled);
            match oldest.map(|(key, _)| key.clone()) {
                Some(oldest) => drop(self.parties.remove(&oldest)),
                None => {
                    self.others += 1;
                    return None;
                }
            }
        }
        let party = self.parties.entry(key.clone()).or_insert(PartyQuota {
            tokens: burst,
            refilled: now,
            left_out: 0,
            last: None,
        });
        party.refill(burst, refill, now);
        if party.tokens == 0 {
            party.left_out += 1;
            let since = party.last.take().map_or(now, |(_, since)| since);
            party.last = Some((item, since));
            return None;
        }
        party.tokens -= 1;
        party.last = None;
        Some((item, std::mem::take(&mut party.left_out)))
    }

    /// Counts what was left out of this party before, after its last item was left out too.
    pub fn count(&mut self, key: &K, left_out: u64) {
        match self.parties.get_mut(key) {
            Some(party) => party.left_out += left_out,
            None => self.others += left_out,
        }
    }

    /// Takes what has been left out for ten seconds, or all of it. Parties that are quiet are forgotten.
    pub fn left_out(&mut self, all: bool, now: Instant) -> LeftOut<K, T> {
        let Quota { burst, refill, .. } = self.quota;
        let mut said = Vec::new();
        self.parties.retain(|key, party| {
            party.refill(burst, refill, now);
            let due = |since: &Instant| all || now.duration_since(*since) >= REPORT;
            if let Some((last, _)) = party.last.take_if(|(_, since)| due(since)) {
                said.push((key.clone(), last, std::mem::take(&mut party.left_out)));
            }
            party.left_out > 0 || party.tokens < burst
        });
        LeftOut {
            parties: said,
            others: std::mem::take(&mut self.others),
        }
    }
}

impl<T> PartyQuota<T> {
    fn refill(&mut self, burst: u32, refill: Duration, now: Instant) {
        let passed = now.duration_since(self.refilled).as_nanos();
        let tokens = passed / refill.as_nanos().max(1);
        let Some(tokens) = u32::try_from(tokens).ok().filter(|it| *it < burst) else {
            (self.tokens, self.refilled) = (burst, now);
            return;
        };
        self.tokens = self.tokens.saturating_add(tokens).min(burst);
        self.refilled += refill.saturating_mul(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(parties: usize) -> Quotas<&'static str, u32> {
        Quotas::new(Quota {
            burst: 3,
            refill: Duration::from_secs(1),
            parties,
        })
    }

    #[test]
    fn a_loud_party_is_counted_and_a_quiet_one_is_heard() {
        let mut quotas = quotas(10);
        let begin = Instant::now();
        let admitted = (0..100)
            .filter(|n| quotas.admit(&"loud", *n, begin).is_some())
            .count();
        assert_eq!(admitted, 3);
        assert_eq!(quotas.admit(&"quiet", 7, begin), Some((7, 0)));
        let second = begin + Duration::from_secs(1);
        assert_eq!(quotas.admit(&"loud", 100, second), Some((100, 97)));
        assert_eq!(quotas.admit(&"loud", 101, second), None);
    }

    #[test]
    fn what_was_left_out_is_said_after_ten_seconds_or_at_the_end_and_once() {
        let mut quotas = quotas(10);
        let begin = Instant::now();
        for n in 0..10 {
            quotas.admit(&"loud", n, begin);
        }
        let nine = begin + Duration::from_secs(9);
        assert!(quotas.left_out(false, nine).parties.is_empty());
        let ten = begin + Duration::from_secs(10);
        assert_eq!(quotas.left_out(false, ten).parties, [("loud", 9, 7)]);
        assert!(quotas.left_out(true, ten).parties.is_empty());
        for n in 0..5 {
            quotas.admit(&"loud", n, ten);
        }
        assert_eq!(quotas.left_out(true, ten).parties, [("loud", 4, 2)]);
    }

    #[test]
    fn more_parties_than_are_told_apart_take_the_place_of_quiet_ones_or_are_counted_together() {
        let mut quotas = quotas(2);
        let now = Instant::now();
        for _ in 0..4 {
            quotas.admit(&"a", 0, now);
        }
        assert!(quotas.admit(&"b", 0, now).is_some());
        assert!(quotas.admit(&"c", 0, now).is_some());
        for _ in 0..3 {
            quotas.admit(&"c", 0, now);
        }
        assert!(quotas.admit(&"d", 0, now).is_none());
        let left_out = quotas.left_out(true, now);
        assert_eq!((left_out.parties.len(), left_out.others), (2, 1));
    }
}
