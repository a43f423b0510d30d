//! Stock and reservations, kept in one file: a few async functions that hide the database.
//!
//! One thread writes. It takes what has queued up, applies each in turn, and answers all of them after one commit, so
//! that an answer is always durable and the disk's latency is shared. Reads see the last commit and block nothing.
//! This module does not validate requests and knows no gRPC; only `tables` knows the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::error;

use crate::events;
pub use crate::stock::{
    ImportError, Imported, Item, NewItem, NewReservation, OpenError, Reservation, ReserveError,
    StoreError,
};
use crate::tables::{Fault, Tables, Written};

/// Writes that may wait; one more is refused, so that a slow disk cannot fill the memory.
const QUEUED_WRITES: usize = 1024;
/// Writes that share a commit.
const WRITES_PER_COMMIT: usize = 256;
/// Changes that a watcher may be behind before it gets current levels instead; all watchers share them.
const KEPT_CHANGES: usize = 4096;

/// One committed change of one item.
#[derive(Debug)]
pub(crate) struct Change {
    /// Grows with each commit; changes of the same commit share it.
    pub(crate) revision: u64,
    pub(crate) item: Item,
}

/// A handle on the data; clones share it. The file is closed when the last one is dropped, which waits for the
/// writes that are under way.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tables: Arc<Tables>,
    changes: broadcast::WeakSender<Arc<Change>>,
    writer: Writer,
}

impl Store {
    /// Opens the data file, and creates it and its directories if need be.
    ///
    /// # Errors
    /// [`OpenError`], if the file is locked, damaged, foreign or out of reach.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let asked = path.clone();
        // A file can be damaged in ways that make its reader panic.
        let tables = tokio::task::spawn_blocking(move || Tables::open(&asked))
            .await
            .unwrap_or_else(|panic| {
                Err(OpenError::Damaged {
                    path: path.clone(),
                    source: panic.into(),
                })
            })?;
        let tables = Arc::new(tables);
        let (changes, _) = broadcast::channel(KEPT_CHANGES);
        let weak = changes.downgrade();
        let writer =
            Writer::start(tables.clone(), changes).map_err(|source| OpenError::Unusable {
                path,
                source: source.into(),
            })?;
        Ok(Self {
            shared: Arc::new(Shared {
                tables,
                changes: weak,
                writer,
            }),
        })
    }

    /// Whether the data file could be opened, or made, without doing so: another server may have it open.
    ///
    /// # Errors
    /// [`OpenError`], if it is empty or out of reach.
    pub fn check(path: &Path) -> Result<(), OpenError> {
        Tables::check(path)
    }

    /// The item as it is now, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn item(&self, sku: &str) -> Result<Option<Item>, StoreError> {
        let sku = sku.to_owned();
        let page = self.read(move |tables| tables.item(&sku)).await?;
        Ok(page.items.into_iter().next())
    }

    /// Promises units to `caller`; on disk when this returns.
    ///
    /// The same caller, identifier, item and quantity again get the first answer again. A refusal leaves nothing
    /// behind. Another caller's identifiers are of no consequence.
    ///
    /// # Errors
    /// [`ReserveError`]; after [`StoreError::Failed`] the reservation may have been made, so retry with the same id.
    pub async fn reserve(
        &self,
        caller: &str,
        wanted: NewReservation,
    ) -> Result<Reservation, ReserveError> {
        let caller = caller.to_owned();
        self.shared
            .writer
            .ask(|reply| Job::Reserve {
                caller,
                wanted,
                reply,
            })
            .await?
    }

    /// Creates or sets all of the items, or none of them; on disk when this returns. Each SKU may come once.
    ///
    /// # Errors
    /// [`ImportError`]; after [`StoreError::Failed`] the import may have happened.
    pub async fn import(&self, items: Vec<NewItem>) -> Result<Imported, ImportError> {
        self.shared
            .writer
            .ask(|reply| Job::Import { items, reply })
            .await?
    }

    /// Each change from now on, as long as there can be any.
    pub(crate) fn changes(&self) -> Option<broadcast::Receiver<Arc<Change>>> {
        let changes = self.shared.changes.upgrade()?;
        Some(changes.subscribe())
    }

    /// Ends when the file can no longer be written: every further write fails, and only a restart helps.
    pub async fn failed(&self) {
        if let Some(jobs) = &self.shared.writer.jobs {
            jobs.closed().await;
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tables) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tables = self.shared.tables.clone();
        match tokio::task::spawn_blocking(move || work(&tables)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(fault)) => {
                error!(error = %fault, "{}", events::READ_FAILED);
                Err(StoreError::Failed)
            }
            Err(panic) => {
                error!(error = %panic, "{}", events::READ_FAILED);
                Err(StoreError::Failed)
            }
        }
    }
}

/// The thread that writes, and the queue to it.
#[derive(Debug)]
struct Writer {
    /// Taken when the store is dropped, which ends the thread.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A write and where its answer goes. A dropped reply means that the store failed.
#[derive(Debug)]
enum Job {
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

type Reply<T> = oneshot::Sender<T>;

impl Job {
    /// Whether its caller went away while it was queued.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Reserve { reply, .. } => reply.is_closed(),
            Self::Import { reply, .. } => reply.is_closed(),
        }
    }
}

impl Writer {
    fn start(tables: Arc<Tables>, changes: broadcast::Sender<Arc<Change>>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUED_WRITES);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_all(&tables, queue, &changes))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError::Failed)?;
        jobs.try_send(job(reply)).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Closed(_) => StoreError::Failed,
        })?;
        answer.await.map_err(|_closed| StoreError::Failed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("{}", events::WRITER_PANICKED);
        }
    }
}

/// Ends with the last handle, or at the first fault: after one, redb can only be trusted again once it is reopened.
fn write_all(
    tables: &Tables,
    mut queue: mpsc::Receiver<Job>,
    changes: &broadcast::Sender<Arc<Change>>,
) {
    let mut batch = Vec::with_capacity(WRITES_PER_COMMIT);
    while queue.blocking_recv_many(&mut batch, WRITES_PER_COMMIT) > 0 {
        let committed = tables.write(|transaction| {
            let mut answers = Vec::with_capacity(batch.len());
            for job in batch.drain(..).filter(|job| !job.is_abandoned()) {
                match job {
                    Job::Reserve {
                        caller,
                        wanted,
                        reply,
                    } => {
                        answers.push(Answer::Reserve(
                            reply,
                            transaction.reserve(&caller, &wanted)?,
                        ));
                    }
                    Job::Import { items, reply } => {
                        answers.push(Answer::Import(reply, transaction.import(&items)?));
                    }
                }
            }
            Ok(answers)
        });
        match committed {
            Ok(_) if !tables.is_in_place() => {
                error!("{}", events::DATA_FILE_GONE);
                return;
            }
            Ok((answers, written)) => {
                publish(changes, written);
                answers.into_iter().for_each(Answer::send);
            }
            Err(fault) => {
                error!(error = %fault, "{}", events::WRITE_FAILED);
                return;
            }
        }
    }
}

enum Answer {
    Reserve(
        Reply<Result<Reservation, ReserveError>>,
        Result<Reservation, ReserveError>,
    ),
    Import(
        Reply<Result<Imported, ImportError>>,
        Result<Imported, ImportError>,
    ),
}

impl Answer {
    /// A caller that has gone away gets no answer, and finds the first one when it retries.
    fn send(self) {
        match self {
            Self::Reserve(reply, answer) => drop(reply.send(answer)),
            Self::Import(reply, answer) => drop(reply.send(answer)),
        }
    }
}

fn publish(changes: &broadcast::Sender<Arc<Change>>, written: Written) {
    let Written { revision, changed } = written;
    for item in changed {
        // An error means that there are no watchers.
        drop(changes.send(Arc::new(Change { revision, item })));
    }
}
