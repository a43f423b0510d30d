//! What a worker counts: calls by method and code, and how long they took.
//!
//! Its size does not depend on how long the worker runs.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::telemetry::code_name;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tonic::Code;

use crate::method::Method;

/// Calls by method, and what else a worker does.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    methods: BTreeMap<Method, MethodTally>,
    levels: u64,
    skipped: u64,
}

#[derive(Clone, Debug, Default)]
struct MethodTally {
    codes: BTreeMap<&'static str, u64>,
    latency: Latency,
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
        let line = |(method, calls): (&Method, &MethodTally)| {
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
            .map(|(method, MethodTally { codes, latency })| {
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

/// How long calls took: to two digits, and the longest of them exactly.
#[derive(Clone, Debug, Default)]
struct Latency {
    /// In microseconds; made with the first call.
    micros: Option<Histogram<u64>>,
    max: Duration,
}

impl Latency {
    /// What takes longer, in microseconds, counts as this: an hour.
    const LONGEST: u64 = 3_600_000_000;
    const DIGITS: u8 = 2;

    fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if self.micros.is_none() {
            // It refuses only other constants than these.
            self.micros = Histogram::new_with_max(Self::LONGEST, Self::DIGITS).ok();
        }
        if let Some(histogram) = &mut self.micros {
            histogram.saturating_record(micros);
        }
        self.max = self.max.max(took);
    }

    /// The points of interest, in milliseconds.
    fn points(&self) -> [(&'static str, f64); 4] {
        let at = |share| {
            let micros = self.micros.as_ref();
            let micros = micros.map_or(0, |micros| micros.value_at_quantile(share));
            millis(Duration::from_micros(micros).min(self.max))
        };
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
    fn percentiles_are_right_within_a_hundredth_and_the_longest_is_exact() {
        let mut latency = Latency::default();
        assert_eq!(latency.points().map(|(_, millis)| millis), [0.0; 4]);
        for millis in (1..=1000).rev() {
            latency.record(Duration::from_millis(millis));
        }
        let points = latency.points();
        for ((name, measured), exact) in points.into_iter().zip([500.0, 900.0, 990.0, 1000.0]) {
            assert!(
                (exact..=exact * 1.01).contains(&measured),
                "{name}: {measured}"
            );
        }
        latency.record(Duration::MAX);
        assert_eq!(latency.points()[3].1, millis(Duration::MAX));
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
