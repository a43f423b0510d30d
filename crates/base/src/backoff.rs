//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential pauses with ±20 % jitter, as in gRPC's connection backoff protocol and its retries (gRFC A6).
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    factor: f64,
    next: Duration,
}

impl Backoff {
    /// From `min` to `max`, each pause `factor` times the last one.
    pub fn new(min: Duration, max: Duration, factor: f64) -> Self {
        Self {
            min,
            max,
            factor,
            next: min,
        }
    }

    /// Starts again from `min`, after an attempt succeeded.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = jittered(self.next);
        self.next = self.next.mul_f64(self.factor).min(self.max);
        pause
    }
}

/// `pause` ±20 %, so that clients do not retry all at once.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 1.6);
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(120), "{pauses:?}");
        assert!(pauses[19] >= Duration::from_secs(4), "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| *pause <= Duration::from_secs(6)),
            "{pauses:?}"
        );
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(120));
    }
}
