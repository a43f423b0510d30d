//! Runs the calls of a connection in the task of the connection, so that calls are not passed between threads. They end
//! with the connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};
use hyper::rt::Executor;

type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes what a connection wants to be run. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct InConnection(Arc<Mutex<Vec<ConnectionTask>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for InConnection {
    fn execute(&self, work: F) {
        let mut new = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        new.push(Box::pin(work));
    }
}

/// What runs in a connection. Each part of it is polled when it was woken, and only then.
#[derive(Default)]
pub(crate) struct ConnectionTasks {
    new: InConnection,
    works: FuturesUnordered<ConnectionTask>,
}

impl ConnectionTasks {
    /// For hyper, to give its work to.
    pub(crate) fn executor(&self) -> InConnection {
        self.new.clone()
    }

    /// Goes on with what was woken and with what is new. Whether there was any of it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut worked = false;
        let mut new = self.new.0.lock().unwrap_or_else(PoisonError::into_inner);
        worked |= !new.is_empty();
        self.works.extend(new.drain(..));
        drop(new);
        while let Poll::Ready(Some(())) = Pin::new(&mut self.works).poll_next(cx) {
            worked = true;
        }
        worked
    }
}

impl Drop for ConnectionTasks {
    /// Drops what was not begun too: a call keeps its executor, so the two would keep each other, and the call its slot.
    fn drop(&mut self) {
        let mut new = self.new.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unbegun = std::mem::take(&mut *new);
        drop(new);
        drop(unbegun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_was_never_begun_ends_with_its_connection() {
        let tasks = ConnectionTasks::default();
        let (begun, executor) = (Arc::new(()), tasks.executor());
        let held = (begun.clone(), executor.clone());
        // As the calls of hyper do, it keeps the executor that it was given to.
        executor.execute(async move { drop(held) });
        drop((tasks, executor));
        assert_eq!(Arc::strong_count(&begun), 1);
    }
}
