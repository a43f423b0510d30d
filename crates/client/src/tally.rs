//! What a worker counts: calls by method and code, and how long they took.
//!
//! Its size does not depend on how long the worker runs.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::telemetry::code_name;
use serde_json::{Value, json};
use tonic::Code;

use crate::method::Method;

/// Calls by method, and what else a worker does.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    methods: BTreeMap<Method, Calls>,
    levels: u64,
    skipped: u64,
}

#[derive(Clone, Debug, Default)]
struct Calls {
    codes: BTreeMap<&'static str, u64>,
    latency: Histogram,
}

impl Tally {
    /// A call ended.
    pub fn call(&mut self, method: Method, code: Code, took: Duration) {
        let calls = self.methods.entry(method).or_default();
        *calls.codes.entry(code_name(code)).or_default() += 1;
        calls.latency.record(took);
    }

    /// A level arrived on a watch.
    pub fn level(&mut self) {
        self.levels += 1;
    }

    /// A call was due and not made, because too many were open.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Calls that ended, and how many of them with OK.
    pub fn totals(&self) -> (u64, u64) {
        let codes = self.methods.values().flat_map(|calls| &calls.codes);
        codes.fold((0, 0), |(all, ok), (code, count)| {
            let well = if *code == code_name(Code::Ok) {
                *count
            } else {
                0
            };
            (all + count, ok + well)
        })
    }

    /// For a person: one line for each method, and one for the rest.
    pub fn to_text(&self, elapsed: Duration) -> String {
        let line = |(method, calls): (&Method, &Calls)| {
            let name = method.name();
            let [p50, p90, p99, max] = calls.latency.points().map(|(_, millis)| millis);
            let codes: Vec<_> = calls
                .codes
                .iter()
                .map(|(code, count)| format!("{code} {count}"))
                .collect();
            let codes = codes.join("  ");
            format!(
                "{name:<12} p50 {p50:.1} ms  p90 {p90:.1} ms  p99 {p99:.1} ms  max {max:.1} ms  {codes}\n"
            )
        };
        let lines: String = self.methods.iter().map(line).collect();
        let (all, ok) = self.totals();
        let Self {
            levels, skipped, ..
        } = self;
        let elapsed = elapsed.as_secs_f64();
        format!(
            "{lines}{all} calls in {elapsed:.1} s, {ok} of them OK; {skipped} skipped; {levels} levels watched"
        )
    }

    /// For a program.
    pub fn to_json(&self, elapsed: Duration) -> Value {
        let methods = self
            .methods
            .iter()
            .map(|(method, Calls { codes, latency })| {
                let latency: BTreeMap<_, _> = latency.points().into_iter().collect();
                (
                    method.name().to_owned(),
                    json!({ "codes": codes, "latency_ms": latency }),
                )
            });
        let (all, ok) = self.totals();
        json!({
            "elapsed_ms": millis(elapsed),
            "calls": all,
            "ok": ok,
            "skipped": self.skipped,
            "levels": self.levels,
            "methods": methods.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Durations by magnitude: each in a bucket at most 1/16 wide, so that a percentile is that exact.
#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: BTreeMap<u32, u64>,
    count: u64,
    max: Duration,
}

impl Histogram {
    const FRACTION_BITS: u32 = 4;

    fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.buckets.entry(Self::bucket(micros)).or_default() += 1;
        self.count += 1;
        self.max = self.max.max(took);
    }

    /// The magnitude of a number, and its leading bits after the first.
    fn bucket(micros: u64) -> u32 {
        let magnitude = micros.checked_ilog2().unwrap_or_default();
        let shift = magnitude.saturating_sub(Self::FRACTION_BITS);
        // At most five bits are left.
        let leading = u32::try_from(micros >> shift).unwrap_or(u32::MAX);
        (shift << (Self::FRACTION_BITS + 1)) + leading
    }

    /// The largest number of microseconds in a bucket.
    fn upper(bucket: u32) -> u64 {
        let shift = bucket >> (Self::FRACTION_BITS + 1);
        let leading = u64::from(bucket & ((1 << (Self::FRACTION_BITS + 1)) - 1));
        // In 128 bits, as the uppermost bucket ends where 64 bits do.
        let end = (u128::from(leading) + 1) << shift;
        u64::try_from(end - 1).unwrap_or(u64::MAX)
    }

    /// What `share` of all durations are not longer than.
    fn percentile(&self, share: f64) -> Duration {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(Self::upper(*bucket)).min(self.max);
            }
        }
        self.max
    }

    /// The points of interest, in milliseconds.
    fn points(&self) -> [(&'static str, f64); 4] {
        let at = |share| millis(self.percentile(share));
        [
            ("p50", at(0.5)),
            ("p90", at(0.9)),
            ("p99", at(0.99)),
            ("max", millis(self.max)),
        ]
    }
}

/// To the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_sixteenth() {
        let mut latency = Histogram::default();
        for millis in (1..=1000).rev() {
            latency.record(Duration::from_millis(millis));
        }
        let points = latency.points();
        for ((name, measured), exact) in points.into_iter().zip([500.0, 900.0, 990.0, 1000.0]) {
            assert!(
                (exact..=exact * 1.0625).contains(&measured),
                "{name}: {measured}"
            );
        }
    }

    #[test]
    fn every_duration_has_a_bucket_that_holds_it() {
        let powers = (0..64).map(|exponent| 1_u64 << exponent);
        let around = powers.flat_map(|power| [power - 1, power, power + 1, power + power / 3]);
        let mut buckets = Vec::new();
        for micros in around.chain([u64::MAX]) {
            let bucket = Histogram::bucket(micros);
            let upper = Histogram::upper(bucket);
            assert!(
                upper >= micros && upper - micros <= micros / 16,
                "{micros} in {bucket} to {upper}"
            );
            buckets.push((micros, bucket));
        }
        buckets.sort();
        assert!(
            buckets.is_sorted_by_key(|(_, bucket)| *bucket),
            "{buckets:?}"
        );

        let mut latency = Histogram::default();
        assert_eq!(latency.percentile(0.5), Duration::ZERO);
        latency.record(Duration::MAX);
        latency.record(Duration::ZERO);
        assert_eq!(latency.percentile(0.5), Duration::ZERO);
    }

    #[test]
    fn a_summary_counts_by_method_and_code() {
        let mut tally = Tally::default();
        tally.call(Method::GetItem, Code::Ok, Duration::from_millis(2));
        tally.call(Method::GetItem, Code::Ok, Duration::from_millis(2));
        tally.call(
            Method::ReserveStock,
            Code::Unavailable,
            Duration::from_millis(7),
        );
        tally.level();
        tally.skip();
        assert_eq!(tally.totals(), (3, 2));
        assert_eq!(
            tally.to_text(Duration::from_millis(1500)),
            "GetItem      p50 2.0 ms  p90 2.0 ms  p99 2.0 ms  max 2.0 ms  OK 2\n\
             ReserveStock p50 7.0 ms  p90 7.0 ms  p99 7.0 ms  max 7.0 ms  UNAVAILABLE 1\n\
             3 calls in 1.5 s, 2 of them OK; 1 skipped; 1 levels watched"
        );
        assert_eq!(
            tally.to_json(Duration::from_millis(1500)),
            json!({
                "elapsed_ms": 1500.0, "calls": 3, "ok": 2, "skipped": 1, "levels": 1,
                "methods": {
                    "GetItem": {
                        "codes": { "OK": 2 },
                        "latency_ms": { "p50": 2.0, "p90": 2.0, "p99": 2.0, "max": 2.0 },
                    },
                    "ReserveStock": {
                        "codes": { "UNAVAILABLE": 1 },
                        "latency_ms": { "p50": 7.0, "p90": 7.0, "p99": 7.0, "max": 7.0 },
                    },
                },
            })
        );
    }
}
