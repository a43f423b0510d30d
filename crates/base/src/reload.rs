//! The state of files that are read again while the process runs: which content is in use, since when, and whether the
//! newest could be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::metrics;

/// A read may take this long, even if the interval is shorter.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

/// The state of one input. It is created when the first content is in use.
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

    /// The content is the one in use.
    pub fn unchanged(&self) {
        self.faulty.store(false, Ordering::Relaxed);
    }

    /// The content was refused; the last good one stays in use.
    pub fn refused(&self) {
        self.refused.inc();
        self.faulty.store(true, Ordering::Relaxed);
    }

    /// Some of the content was refused before and has not changed.
    pub fn still_refused(&self) {
        self.faulty.store(true, Ordering::Relaxed);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

/// Registers the families of all inputs of a process, each under its name.
pub fn register(inputs: Vec<(&'static str, Arc<Input>)>, registry: &mut Registry) {
    metrics::register(registry, move |families| {
        families.counter(
            "config_reloads",
            "New contents of an input, by whether they were accepted.",
            inputs.iter().flat_map(|(name, input)| {
                let labels = |result| [("input", *name), ("result", result)];
                [
                    (labels("accepted"), input.generation() - 1),
                    (labels("refused"), input.refused.get()),
                ]
            }),
        )?;
        let each = || inputs.iter().map(|(name, it)| ([("input", *name)], it));
        families.gauge(
            "config_last_reload_successful",
            "1 if the content of an input is in use, 0 if it was refused and the last good one is in use.",
            each().map(|(name, it)| (name, u64::from(!it.faulty.load(Ordering::Relaxed)))),
        )?;
        families.gauge(
            "config_generation",
            "The generation of the content in use, counted from 1 at the start.",
            each().map(|(name, it)| (name, it.generation())),
        )?;
        families.gauge(
            "config_last_reload_success_timestamp_seconds",
            "Since when the content of an input is in use.",
            each().map(|(name, it)| (name, it.since_millis.load(Ordering::Relaxed) as f64 / 1e3)),
        )
    });
}

/// Runs `work`, which reads and checks a file, on its own thread, so that a disk that hangs does not keep the process from
/// ending. Calls `late` if it takes longer than an interval. `None` if the work panics or no thread can be started.
pub async fn on_a_thread<T: Send + 'static>(
    name: &str,
    interval: Duration,
    work: impl FnOnce() -> T + Send + 'static,
    late: impl FnOnce(),
) -> Option<T> {
    let (done, mut result) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        // The receiver is gone when nothing uses the content any more.
        .spawn(move || drop(done.send(work())))
        .ok()?;
    match timeout(interval.max(SHORTEST_PATIENCE), &mut result).await {
        Ok(result) => result.ok(),
        Err(_late) => {
            late();
            result.await.ok()
        }
    }
}

fn now_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| u64::try_from(now.as_millis()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_is_told_once_and_its_result_is_still_taken() {
        let (told, hangs) = mpsc::channel();
        let work = move || hangs.recv().ok();
        let late = || told.send("late").unwrap();
        let read = on_a_thread("test", Duration::from_millis(1), work, late).await;
        assert_eq!(read, Some(Some("late")));
    }

    #[tokio::test]
    async fn a_read_that_panics_is_none() {
        let work = || assert!(Path::new("/").is_file());
        let read = on_a_thread("test", Duration::MAX, work, || {}).await;
        assert_eq!(read, None);
    }
}
