//! The queue of writes, and the replies to them, for either kind of store.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::fair_slots::FairSlot;
use crate::stock::{
    ImportError, Imported, NewItem, NewReservation, Reservation, ReserveError, StoreError,
};

/// How many writes may wait; one more is refused, so that a slow disk or database cannot fill the memory.
pub const QUEUED_WRITES: usize = 1024;

/// A write and where its answer goes. A dropped reply means that the store failed.
#[derive(Debug)]
pub(crate) enum Job {
    Reserve {
        caller: String,
        wanted: NewReservation,
        reply: Reply<Result<Reservation, ReserveError>>,
    },
    Import {
        items: Vec<NewItem>,
        reply: Reply<Result<Imported, ImportError>>,
    },
}

/// Where an answer goes, and the caller's share that the write takes until it is answered or dropped, also when the
/// caller has gone away.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    answer: oneshot::Sender<T>,
    _slot: Option<FairSlot>,
}

impl<T> Reply<T> {
    /// A caller that has gone away gets no answer.
    pub(crate) fn send(self, answer: T) {
        drop(self.answer.send(answer));
    }

    fn is_closed(&self) -> bool {
        self.answer.is_closed()
    }
}

impl Job {
    /// Whether its caller went away while it was queued.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Reserve { reply, .. } => reply.is_closed(),
            Self::Import { reply, .. } => reply.is_closed(),
        }
    }
}

/// The sending side of the queue.
#[derive(Debug)]
pub(crate) struct Writes(mpsc::Sender<Job>);

impl Writes {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(QUEUED_WRITES);
        (Self(jobs), queue)
    }

    pub(crate) async fn ask<T>(
        &self,
        slot: Option<FairSlot>,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let reply = Reply {
            answer: reply,
            _slot: slot,
        };
        self.0
            .try_send(job(reply))
            .map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Closed(_) => StoreError::Failed,
            })?;
        answer.await.map_err(|_closed| StoreError::Failed)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        QUEUED_WRITES - self.0.capacity()
    }

    /// Resolves when the writer is gone.
    pub(crate) async fn ended(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Poll;

    use super::*;
    use crate::fair_slots::FairSlots;

    #[tokio::test]
    async fn a_caller_that_cancels_its_writes_keeps_no_place_from_others() {
        let (writes, _slow) = Writes::new();
        let slots = FairSlots::new(QUEUED_WRITES);
        let is_queued = async |caller: &Arc<str>| {
            let Some(slot) = slots.take(caller) else {
                return false;
            };
            let job = |reply| Job::Import {
                items: Vec::new(),
                reply,
            };
            // Dropped at once, as when its call is reset.
            let mut call = pin!(writes.ask(Some(slot), job));
            poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx)))
                .await
                .is_pending()
        };
        let [loud, quiet] = ["loud", "quiet"].map(Arc::<str>::from);
        for _ in 0..QUEUED_WRITES {
            is_queued(&loud).await;
        }
        assert_eq!(writes.waiting(), QUEUED_WRITES / 2);
        assert!(is_queued(&quiet).await);
    }
}
