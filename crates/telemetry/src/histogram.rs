//! How long something took, as a distribution of constant size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets in seconds, as OpenTelemetry advises for the duration of an RPC.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Durations in the buckets that OpenTelemetry advises for RPCs.
#[derive(Debug, Default)]
pub struct Histogram {
    within: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    nanos: AtomicU64,
}

impl Histogram {
    /// One more.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.within
            .get(bucket)
            .unwrap_or(&self.beyond)
            .fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many are in each bucket, with its upper bound in seconds; the last one has none.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        let counts = self.within.iter().chain([&self.beyond]);
        bounds.zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    /// All together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}
