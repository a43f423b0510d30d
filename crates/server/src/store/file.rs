//! The store in one file of one process.
//!
//! One thread writes. It takes what has queued up, applies each in turn, and answers all of them after one commit, so
//! that an answer is always durable and the disk's latency is shared. Reads see the last commit and block nothing.
//! Only `tables` knows what is in the file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{broadcast, mpsc};
use tracing::error;

use crate::events;
use crate::stock::{
    Change, Event, ImportError, Imported, ItemPage, OpenError, Reservation, ReserveError,
    StoreError,
};
use crate::store::tables::{FileFault, Tables, Written};
use crate::store::writes::{Job, Reply, Writes};

/// Writes that share a commit.
const WRITES_PER_COMMIT: usize = 256;

/// The open file. It is closed when this is dropped, which waits for the writes that are under way.
#[derive(Debug)]
pub(crate) struct DataFile {
    tables: Arc<Tables>,
    changes: broadcast::WeakSender<Event>,
    writer: Writer,
}

impl DataFile {
    pub(crate) async fn open(path: PathBuf, kept_changes: usize) -> Result<Self, OpenError> {
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
        let (changes, _) = broadcast::channel(kept_changes);
        let weak = changes.downgrade();
        let writer =
            Writer::start(tables.clone(), changes).map_err(|source| OpenError::Unusable {
                path,
                source: source.into(),
            })?;
        Ok(Self {
            tables,
            changes: weak,
            writer,
        })
    }

    pub(crate) fn writes(&self) -> Result<&Writes, StoreError> {
        self.writer.writes.as_ref().ok_or(StoreError::Failed)
    }

    pub(crate) fn changes(&self) -> Option<broadcast::Receiver<Event>> {
        let changes = self.changes.upgrade()?;
        Some(changes.subscribe())
    }

    /// Resolves when the file can no longer be written: every further write fails, and only a restart helps.
    pub(crate) async fn failed(&self) {
        if let Some(writes) = &self.writer.writes {
            writes.ended().await;
        }
    }

    pub(crate) async fn item(&self, sku: String) -> Result<ItemPage, StoreError> {
        self.read(move |tables| tables.item(&sku)).await
    }

    pub(crate) async fn page(&self, after: String, limit: usize) -> Result<ItemPage, StoreError> {
        self.read(move |tables| tables.page(&after, limit)).await
    }

    async fn read(
        &self,
        work: impl FnOnce(&Tables) -> Result<ItemPage, FileFault> + Send + 'static,
    ) -> Result<ItemPage, StoreError> {
        let tables = self.tables.clone();
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
    writes: Option<Writes>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(tables: Arc<Tables>, changes: broadcast::Sender<Event>) -> io::Result<Self> {
        let (writes, queue) = Writes::new();
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_all(&tables, queue, &changes))?;
        Ok(Self {
            writes: Some(writes),
            thread: Some(thread),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.writes.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("{}", events::WRITER_PANICKED);
        }
    }
}

/// Ends with the last handle, or at the first fault: after one, redb can only be trusted again once it is reopened.
fn write_all(tables: &Tables, mut queue: mpsc::Receiver<Job>, changes: &broadcast::Sender<Event>) {
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
    /// A caller that has gone away, and retries, gets the first response.
    fn send(self) {
        match self {
            Self::Reserve(reply, answer) => reply.send(answer),
            Self::Import(reply, answer) => reply.send(answer),
        }
    }
}

fn publish(changes: &broadcast::Sender<Event>, written: Written) {
    let Written { revision, changed } = written;
    for item in changed {
        // An error means that there are no watchers.
        drop(changes.send(Event::Changed(Arc::new(Change { revision, item }))));
    }
}
