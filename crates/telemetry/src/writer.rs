//! A thread that writes the log, so that no call waits for the log's reader.
//!
//! Lines queue for a thread. When they are not read in time, those of the peer with the most lines waiting are dropped
//! first and our own last. Dropped lines are counted, and the next line that is written reports the count.
//! `tracing-appender` drops the newest lines, so one peer could hide the refusals of others and our own errors.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::writer::{Sink, Writer};

use crate::limiter::Who;

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
#[derive(Clone, Debug)]
pub(crate) struct QueueWriter {
    lines: Writer<Who, String>,
    /// Lines that were dropped and not reported yet.
    dropped: Arc<AtomicU64>,
}

impl QueueWriter {
    /// Starts the thread. `sorry` makes the line that reports how many lines were dropped, and `rest` the due reports
    /// of suppressed lines, or all of them if asked. If no thread can be started, every line is dropped and counted.
    ///
    /// Lines are written together, up to `together` bytes of them, or each by itself when it alone is longer.
    pub(crate) fn in_batches(
        together: usize,
        write: impl Fn(&str) -> io::Result<()> + Send + 'static,
        sorry: impl Fn(u64) -> String + Send + 'static,
        rest: impl Fn(bool) -> Vec<String> + Send + 'static,
    ) -> Self {
        let dropped = Arc::<AtomicU64>::default();
        let log = LogWriter {
            batch: WriteBatch::new(together, write),
            dropped: dropped.clone(),
            sorry,
            rest,
        };
        let lines = Writer::start("log", QUEUE, GATHER, log);
        Self {
            lines: lines.unwrap_or_else(|_no_thread| Writer::closed()),
            dropped,
        }
    }

    /// Queues a line about a peer, or one of our own, or drops one.
    pub(crate) fn write(&self, who: Option<Who>, line: String) {
        if self.lines.push(who, line).is_err() {
            QUEUE_FULL.fetch_add(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything queued so far is written, at most for `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        self.lines.flush(patience);
    }
}

/// Writes lines, and reports those that are missing.
struct LogWriter<W, S, R> {
    batch: WriteBatch<W>,
    dropped: Arc<AtomicU64>,
    sorry: S,
    rest: R,
}

impl<W, S, R> LogWriter<W, S, R>
where
    W: Fn(&str) -> io::Result<()>,
    S: Fn(u64) -> String,
{
    fn report_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.batch.put(&(self.sorry)(dropped));
        }
    }
}

impl<W, S, R> Sink<String> for LogWriter<W, S, R>
where
    W: Fn(&str) -> io::Result<()> + Send + 'static,
    S: Fn(u64) -> String + Send + 'static,
    R: Fn(bool) -> Vec<String> + Send + 'static,
{
    fn put(&mut self, line: String) {
        self.batch.put(&line);
        self.report_dropped();
    }

    fn settle(&mut self, all: bool) {
        self.report_dropped();
        for line in (self.rest)(all) {
            self.batch.put(&line);
        }
        self.batch.write();
    }
}

/// Lines that are written together, since each write costs more than what it writes.
struct WriteBatch<W> {
    write: W,
    together: usize,
    text: String,
    lines: u64,
}

impl<W: Fn(&str) -> io::Result<()>> WriteBatch<W> {
    fn new(together: usize, write: W) -> Self {
        Self {
            write,
            together,
            text: String::new(),
            lines: 0,
        }
    }

    fn put(&mut self, line: &str) {
        if self.text.len() + line.len() > self.together {
            self.write();
        }
        self.text.push_str(line);
        self.lines += 1;
        if self.text.len() >= self.together {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.lines > 0 && (self.write)(&self.text).is_err() {
            WRITE_FAILED.fetch_add(self.lines, Ordering::Relaxed);
        }
        self.text.clear();
        self.lines = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    impl QueueWriter {
        /// Each line by itself.
        fn start(
            write: impl Fn(&str) -> io::Result<()> + Send + 'static,
            sorry: impl Fn(u64) -> String + Send + 'static,
            rest: impl Fn(bool) -> Vec<String> + Send + 'static,
        ) -> Self {
            Self::in_batches(0, write, sorry, rest)
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time_and_is_told_so_when_it_reads_again() {
        let (read, lines) = mpsc::channel();
        let (go, stuck) = mpsc::channel::<()>();
        let write = move |line: &str| {
            stuck.recv().map_err(io::Error::other)?;
            read.send(line.to_owned()).map_err(io::Error::other)
        };
        let writer = QueueWriter::start(write, |lost| format!("{lost} lost"), |_| Vec::new());
        // One is in the hands of the thread, or still in the queue.
        for n in 0..QUEUE + 101 {
            writer.write(None, n.to_string());
        }
        for _ in 0..QUEUE + 2 {
            go.send(()).unwrap();
        }
        assert_eq!(lines.recv().unwrap(), "0");
        // After the line that was next when the first one was lost.
        let mut next = lines.iter().take(2);
        let lost = next.find_map(|line| line.strip_suffix(" lost")?.parse::<u64>().ok());
        let lost = lost.unwrap();
        assert!((100..=101).contains(&lost), "{lost}");
        assert!(lost_at_least(100));
    }

    fn lost_at_least(count: u64) -> bool {
        lost().queue_full >= count
    }

    #[test]
    fn a_closed_reader_is_counted_and_does_no_harm() {
        let writer = QueueWriter::start(
            |_| Err(io::ErrorKind::BrokenPipe.into()),
            |_| String::new(),
            |_| Vec::new(),
        );
        writer.write(None, "lost".to_owned());
        writer.flush(Duration::from_secs(10));
        assert!(lost().write_failed >= 1);
    }
}
