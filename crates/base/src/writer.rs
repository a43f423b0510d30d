//! A thread that writes what others queue, so that none of them waits for a slow reader or a disk.

use std::fmt;
use std::hash::Hash;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::queue::FairQueue;

/// How often [`Sink::settle`] is called while nothing is queued.
const LOOK: Duration = Duration::from_secs(1);

/// What the thread does with the items.
pub trait Sink<T>: Send + 'static {
    /// Writes an item, or keeps it to write it with others. It may block, but then the queue fills.
    fn put(&mut self, item: T);

    /// Writes what was kept, and what else is due: the queue is empty. `all` asks for everything, because somebody
    /// waits for it.
    fn settle(&mut self, all: bool);
}

/// A queue and the thread that empties it. Clones share it; the thread ends with the last of them.
pub struct Writer<K, T>(Arc<Shared<K, T>>);

struct Shared<K, T> {
    state: Mutex<State<K, T>>,
    wake: Condvar,
}

struct State<K, T> {
    queue: FairQueue<K, T>,
    /// Senders to notify when the queue is empty.
    flushes: Vec<SyncSender<()>>,
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Send + 'static> Writer<K, T> {
    /// Starts a thread of this name. An item may wait for `gather`, to be written with others.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(
        name: &str,
        capacity: usize,
        gather: Duration,
        sink: impl Sink<T>,
    ) -> io::Result<Self> {
        let writer = Self::new(capacity);
        let shared = writer.0.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&shared, gather, sink))?;
        Ok(writer)
    }

    /// A writer without a thread, which takes no item.
    pub fn closed() -> Self {
        Self::new(0)
    }

    fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                queue: FairQueue::new(capacity),
                flushes: Vec::new(),
            }),
            wake: Condvar::new(),
        }))
    }

    /// Queues an item of `party`, or one of our own.
    ///
    /// # Errors
    /// The item that found no place: see [`FairQueue::push`].
    pub fn push(&self, party: Option<K>, item: T) -> Result<(), T> {
        let mut state = self.0.state();
        let idle = state.queue.is_empty();
        let pushed = state.queue.push(party, item);
        drop(state);
        if idle {
            self.0.wake.notify_one();
        }
        pushed
    }

    /// Blocks until everything queued so far is written, at most for `patience`. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        let mut state = self.0.state();
        // A full queue means that the thread is stuck or far behind: do not wait.
        if state.queue.is_full() {
            return false;
        }
        state.flushes.push(done);
        drop(state);
        self.0.wake.notify_one();
        written.recv_timeout(patience).is_ok()
    }
}

fn work<K: Clone + Eq + Hash, T>(
    shared: &Arc<Shared<K, T>>,
    gather: Duration,
    mut sink: impl Sink<T>,
) {
    loop {
        let waiting = |state: &mut State<K, T>| state.queue.is_empty() && state.flushes.is_empty();
        let (state, _timeout) = shared
            .wake
            .wait_timeout_while(shared.state(), LOOK, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let may_gather = !state.queue.is_empty() && state.flushes.is_empty();
        drop(state);
        if may_gather {
            thread::sleep(gather);
        }
        // Before the last look at the queue: nothing is queued after it.
        let is_last = Arc::strong_count(shared) == 1;
        while let Some(item) = shared.pop() {
            sink.put(item);
        }
        let flushes = std::mem::take(&mut shared.state().flushes);
        sink.settle(is_last || !flushes.is_empty());
        for done in flushes {
            // The receiver may have timed out.
            done.try_send(()).ok();
        }
        if is_last {
            return;
        }
    }
}

impl<K, T> Shared<K, T> {
    fn state(&self) -> MutexGuard<'_, State<K, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, T> Shared<K, T> {
    fn pop(&self) -> Option<T> {
        self.state().queue.pop()
    }
}

impl<K, T> Clone for Writer<K, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, T> fmt::Debug for Writer<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes a number for each permit, and says when it settles.
    struct Slow {
        permits: Receiver<()>,
        written: Sender<String>,
    }

    impl Sink<u32> for Slow {
        fn put(&mut self, item: u32) {
            if self.permits.recv().is_ok() {
                self.written.send(item.to_string()).ok();
            }
        }

        fn settle(&mut self, all: bool) {
            if all {
                self.written.send("all".to_owned()).ok();
            }
        }
    }

    #[test]
    fn a_writer_that_is_stuck_takes_what_fits_and_ends_when_nobody_writes_to_it() {
        let (permit, permits) = channel();
        let (written, lines) = channel();
        let sink = Slow { permits, written };
        let writer = Writer::<&str, _>::start("test", 2, Duration::ZERO, sink).unwrap();
        writer.push(None, 0).unwrap();
        permit.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), "0");
        // One is in the hands of the thread, or still in the queue.
        let lost = (1..6).filter(|n| writer.push(None, *n).is_err()).count();
        assert!((2..=3).contains(&lost), "{lost}");
        assert!(!writer.flush(Duration::ZERO), "it is stuck");
        drop(permit);
        drop(writer);
        let mut rest = std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(30)).ok());
        assert!(rest.any(|line| line == "all"), "the thread ends");
        assert!(!Writer::<&str, u32>::closed().flush(Duration::ZERO));
        assert_eq!(Writer::<&str, u32>::closed().push(None, 1), Err(1));
    }
}
