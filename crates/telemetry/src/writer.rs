//! The one that waits for whoever reads the log, so that no call does.
//!
//! Lines queue for a thread. When they are not read in time, newer ones are dropped and counted, and the first line
//! that is read again says how many.

use std::fmt;
use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How many lines may wait.
const QUEUE: usize = 8192;

/// How long a line may wait for others to be written with it, since waking the thread costs more than writing does.
const GATHER: Duration = Duration::from_millis(5);

/// What was lost in this process.
static QUEUE_FULL: AtomicU64 = AtomicU64::new(0);
static WRITE_FAILED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) queue_full: u64,
    pub(crate) write_failed: u64,
}

pub(crate) fn lost() -> Lost {
    Lost {
        queue_full: QUEUE_FULL.load(Ordering::Relaxed),
        write_failed: WRITE_FAILED.load(Ordering::Relaxed),
    }
}

/// The queue of lines. Clones share it.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

enum Job {
    Line(String),
    Flush(SyncSender<()>),
}

impl Writer {
    /// Starts the thread. `sorry` makes the line that says how many others were dropped.
    ///
    /// When the system has no thread to give, every line is dropped and counted.
    pub(crate) fn start(
        write: impl Fn(&str) -> io::Result<()> + Send + 'static,
        sorry: impl Fn(u64) -> String + Send + 'static,
    ) -> Self {
        let (jobs, queue) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let seen = dropped.clone();
        let work = move || work(&queue, &seen, write, sorry);
        drop(thread::Builder::new().name("log".to_owned()).spawn(work));
        Self { jobs, dropped }
    }

    /// Queues a line, or drops it.
    pub(crate) fn write(&self, line: String) {
        if self.jobs.try_send(Job::Line(line)).is_err() {
            QUEUE_FULL.fetch_add(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what is queued so far is written, at most for `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        // A full queue means that nobody reads: then there is nothing to wait for.
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            written.recv_timeout(patience).ok();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

fn work(
    queue: &Receiver<Job>,
    dropped: &AtomicU64,
    write: impl Fn(&str) -> io::Result<()>,
    sorry: impl Fn(u64) -> String,
) {
    let put = |line: &str| {
        if write(line).is_err() {
            WRITE_FAILED.fetch_add(1, Ordering::Relaxed);
        }
    };
    while let Ok(first) = queue.recv() {
        if matches!(first, Job::Line(_)) {
            thread::sleep(GATHER);
        }
        for job in iter::once(first).chain(queue.try_iter()) {
            match job {
                Job::Line(line) => {
                    put(&line);
                    let lost = dropped.swap(0, Ordering::Relaxed);
                    if lost > 0 {
                        put(&sorry(lost));
                    }
                }
                // Whoever asked may have lost patience.
                Job::Flush(done) => drop(done.try_send(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time_and_is_told_so_when_it_reads_again() {
        let (read, lines) = mpsc::channel();
        let (go, stuck) = mpsc::channel::<()>();
        let write = move |line: &str| {
            stuck.recv().map_err(io::Error::other)?;
            read.send(line.to_owned()).map_err(io::Error::other)
        };
        let writer = Writer::start(write, |lost| format!("{lost} lost"));
        // One is in the hands of the thread, or still in the queue.
        for n in 0..QUEUE + 101 {
            writer.write(n.to_string());
        }
        for _ in 0..QUEUE + 2 {
            go.send(()).unwrap();
        }
        assert_eq!(lines.recv().unwrap(), "0");
        let lost: u64 = lines
            .recv()
            .unwrap()
            .strip_suffix(" lost")
            .unwrap()
            .parse()
            .unwrap();
        assert!((100..=101).contains(&lost), "{lost}");
        assert!(lost_at_least(100));
    }

    fn lost_at_least(count: u64) -> bool {
        lost().queue_full >= count
    }

    #[test]
    fn a_closed_reader_is_nobodys_trouble() {
        let writer = Writer::start(|_| Err(io::ErrorKind::BrokenPipe.into()), |_| String::new());
        writer.write("unheard".to_owned());
        writer.flush(Duration::from_secs(10));
        assert!(lost().write_failed >= 1);
    }
}
