//! The queue of writes, and the replies to them, for either kind of store.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

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

pub(crate) type Reply<T> = oneshot::Sender<T>;

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

    pub(crate) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
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
