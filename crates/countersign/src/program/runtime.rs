//! The threads that a process works with: as many as configured, and an error instead of a panic when they cannot start.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use crate::events;

/// The default maximum: more threads only take memory, as on a large machine in a small container.
const MOST: usize = 8;

/// Threads beside the workers: the log, the audit log, the store, the last resort, and files that are read.
const OTHERS: usize = 8;

/// How long to wait at shutdown for threads that hang on a file or a disk.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// One worker for each processor that we may use, up to eight.
pub fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, |all| all.get().min(MOST))
}

/// A runtime with this many worker threads.
///
/// # Errors
/// The system cannot start the threads.
pub fn runtime(workers: NonZeroUsize) -> io::Result<Runtime> {
    // The runtime panics when it finds none.
    try_threads(workers.get() + OTHERS)?;
    Builder::new_multi_thread()
        .worker_threads(workers.get())
        .enable_all()
        .build()
}

/// Ends the runtime. Threads that hang are abandoned, with a log line.
pub fn shut_down(runtime: Runtime) {
    let began = std::time::Instant::now();
    runtime.shutdown_timeout(SHUTDOWN);
    if began.elapsed() >= SHUTDOWN {
        warn!("{}", events::THREAD_HANGS);
    }
}

fn try_threads(number: usize) -> io::Result<()> {
    let mut waiting = Vec::with_capacity(number);
    for started in 0..number {
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel::<()>();
        let thread = thread::Builder::new().spawn(move || {
            drop(begin);
            released.recv().is_ok()
        });
        let thread = thread.map_err(|source| {
            let text = format!(
                "{number} threads are needed and the system gives {started} ({source}); raise the limit of threads or of memory, or lower --worker-threads"
            );
            io::Error::new(source.kind(), text)
        })?;
        // One after the other: a thread whose own room goes to the next one would abort the process.
        begun.recv().ok();
        waiting.push((release, thread));
    }
    for (release, thread) in waiting {
        drop(release);
        // It does nothing that could panic.
        thread.join().ok();
    }
    Ok(())
}
