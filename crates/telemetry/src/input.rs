//! Files that are read again while the process runs: how old what is in use is, and whether what is there could be used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::count::Counter;
use crate::page::Page;

/// What became of reading one input. It is made when the first content is in use.
#[derive(Debug)]
pub struct Input {
    generation: AtomicU64,
    since_millis: AtomicU64,
    refused: Counter,
    faulty: AtomicBool,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(1),
            since_millis: AtomicU64::new(now_millis()),
            refused: Counter::default(),
            faulty: AtomicBool::new(false),
        }
    }
}

impl Input {
    /// New content is in use.
    pub fn accepted(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.since_millis.store(now_millis(), Ordering::Relaxed);
        self.unchanged();
    }

    /// What is there is what is in use.
    pub fn unchanged(&self) {
        self.faulty.store(false, Ordering::Relaxed);
    }

    /// What is there was refused; the last good one stays in use.
    pub fn refused(&self) {
        self.refused.add();
        self.faulty.store(true, Ordering::Relaxed);
    }

    /// Some of what is there was refused before, and is still there.
    pub fn still_refused(&self) {
        self.faulty.store(true, Ordering::Relaxed);
    }

    /// Writes the families of all inputs of the process, each under its name.
    pub fn metrics(inputs: &[(&str, &Self)], page: &mut Page) {
        let mut reloads = page.counter(
            "config_reloads_total",
            "New contents of an input, by whether they were taken into use.",
        );
        for (name, input) in inputs {
            reloads
                .sample(
                    &[("input", name), ("result", "accepted")],
                    input.generation() - 1,
                )
                .sample(
                    &[("input", name), ("result", "refused")],
                    input.refused.get(),
                );
        }
        let mut successful = page.gauge(
            "config_last_reload_successful",
            "1 if what an input holds is in use, 0 if it was refused and the last good one is.",
        );
        for (name, input) in inputs {
            let good = !input.faulty.load(Ordering::Relaxed);
            successful.sample(&[("input", name)], u8::from(good));
        }
        let mut generation = page.gauge(
            "config_generation",
            "Which content of an input is in use, counted from 1 at the start.",
        );
        for (name, input) in inputs {
            generation.sample(&[("input", name)], input.generation());
        }
        let mut since = page.gauge(
            "config_last_reload_success_timestamp_seconds",
            "Since when the content of an input is in use.",
        );
        for (name, input) in inputs {
            let since_epoch = Duration::from_millis(input.since_millis.load(Ordering::Relaxed));
            since.moment(&[("input", name)], UNIX_EPOCH + since_epoch);
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

fn now_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| u64::try_from(now.as_millis()).ok())
        .unwrap_or_default()
}
