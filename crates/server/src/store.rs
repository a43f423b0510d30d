//! Stock and reservations: a few async functions that hide where the data is stored.
//! There are two backends with the same behaviour: a file of this process ([`file`]), or a PostgreSQL database that
//! several servers share (`postgres`). Only this module knows which is used. It does not validate requests, and is
//! independent of gRPC.

mod fault;
mod file;
mod link;
mod postgres;
mod schema;
mod tables;
mod writes;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::admin::Readiness;
use countersign::mtls::{InvalidCredentials, Trust};
use countersign::prometheus_client::registry::Registry;
use tokio::sync::{broadcast, watch};

use crate::fair_slots::FairSlot;
use crate::stock::{Event, ItemPage};
pub use crate::stock::{
    ImportError, Imported, Item, NewItem, NewReservation, OpenError, Reservation, ReserveError,
    StoreError,
};
use crate::store::file::DataFile;
pub use crate::store::link::Database;
use crate::store::postgres::SharedStore;
use crate::store::tables::Tables;
pub use crate::store::writes::QUEUED_WRITES;
use crate::store::writes::{Job, Writes};

/// Changes that a watcher may be behind before it gets current levels instead; all watchers share them.
const KEPT_CHANGES: usize = 4096;

/// Where the data is stored.
#[derive(Clone, Debug)]
pub enum Data {
    /// In a file that only this process uses.
    File(PathBuf),
    /// In a database that several servers share.
    Database(Database),
}

impl Data {
    /// `postgres://USER@HOST/NAME`, or else the path of a file.
    ///
    /// # Errors
    /// [`OpenError::Url`]
    pub fn parse(data: &OsStr) -> Result<Self, OpenError> {
        match data.to_str() {
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                url.parse().map(Self::Database)
            }
            Some(_) | None => Ok(Self::File(data.into())),
        }
    }

    /// Opens it. `trust` opens the client credentials for a database.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open(
        self,
        trust: impl FnOnce() -> Result<Trust, InvalidCredentials>,
    ) -> Result<Store, OpenError> {
        match self {
            Self::File(path) => Store::open(path).await,
            Self::Database(database) => Store::connect(database, trust()?).await,
        }
    }

    /// Checks that it could be opened or created, without doing so: another server may have the file open. Call it
    /// within a tokio runtime, and not from a task.
    ///
    /// # Errors
    /// [`OpenError`], if it is unusable or unreachable.
    pub fn check(
        self,
        trust: impl FnOnce() -> Result<Trust, InvalidCredentials>,
    ) -> Result<(), OpenError> {
        match self {
            Self::File(path) => Store::check(&path),
            Self::Database(database) => {
                let runtime = tokio::runtime::Handle::current();
                runtime.block_on(SharedStore::check(database, trust()?))
            }
        }
    }
}

/// A handle on the data; clones share it. When the last one is dropped, a file is closed after the writes that are under
/// way, and so are the connections to a database.
#[derive(Clone, Debug)]
pub struct Store(Arc<Backend>);

#[derive(Debug)]
enum Backend {
    File(DataFile),
    Database(SharedStore),
}

impl Store {
    /// Opens the data file, and creates it and its directories if need be.
    ///
    /// # Errors
    /// [`OpenError`], if the file is locked, damaged, from another program, or inaccessible.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let file = DataFile::open(path.into(), KEPT_CHANGES).await?;
        Ok(Self(Arc::new(Backend::File(file))))
    }

    /// Connects to a database, and migrates its schema. A database that is unavailable now is not an error: the store
    /// is not ready until it is available.
    ///
    /// # Errors
    /// [`OpenError::Database`], if it cannot be used as it is.
    pub async fn connect(database: Database, trust: Trust) -> Result<Self, OpenError> {
        let shared = SharedStore::open(database, trust, KEPT_CHANGES).await?;
        Ok(Self(Arc::new(Backend::Database(shared))))
    }

    /// Checks that the data file could be opened or created, without doing so: another server may have it open.
    ///
    /// # Errors
    /// [`OpenError`], if it is empty or inaccessible.
    pub fn check(path: &Path) -> Result<(), OpenError> {
        Tables::check(path)
    }

    /// The item as it is now, if there is one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn item(&self, sku: &str) -> Result<Option<Item>, StoreError> {
        Ok(self.page_of(sku).await?.items.into_iter().next())
    }

    /// One item, or none, and the revision that it was read at.
    pub(crate) async fn page_of(&self, sku: &str) -> Result<ItemPage, StoreError> {
        match &*self.0 {
            Backend::File(file) => file.item(sku.to_owned()).await,
            Backend::Database(shared) => shared.item(sku).await,
        }
    }

    /// Up to `limit` items in the order of their SKUs, from the first one after `after`.
    pub(crate) async fn page(&self, after: String, limit: usize) -> Result<ItemPage, StoreError> {
        match &*self.0 {
            Backend::File(file) => file.page(after, limit).await,
            Backend::Database(shared) => shared.page(&after, limit).await,
        }
    }

    /// Promises units to `caller`; on disk when this returns.
    ///
    /// If the same caller repeats the identifier, item and quantity, it gets the first result again. A refusal stores
    /// nothing. Each caller has its own identifiers.
    ///
    /// # Errors
    /// [`ReserveError`]; after [`StoreError::Failed`] and [`StoreError::Unavailable`] the reservation may have been
    /// made, so retry with the same id.
    pub async fn reserve(
        &self,
        caller: &str,
        wanted: NewReservation,
    ) -> Result<Reservation, ReserveError> {
        self.reserve_within(None, caller, wanted).await
    }

    /// The same, within the share of a caller.
    pub(crate) async fn reserve_within(
        &self,
        share: Option<FairSlot>,
        caller: &str,
        wanted: NewReservation,
    ) -> Result<Reservation, ReserveError> {
        let caller = caller.to_owned();
        let job = |reply| Job::Reserve {
            caller,
            wanted,
            reply,
        };
        self.writes()?.ask(share, job).await?
    }

    /// Creates or sets all of the items, or none of them; on disk when this returns. Each SKU may come once.
    ///
    /// # Errors
    /// [`ImportError`]; after [`StoreError::Failed`] and [`StoreError::Unavailable`] the import may have happened.
    pub async fn import(&self, items: Vec<NewItem>) -> Result<Imported, ImportError> {
        self.import_within(None, items).await
    }

    /// The same, within the share of a caller.
    pub(crate) async fn import_within(
        &self,
        share: Option<FairSlot>,
        items: Vec<NewItem>,
    ) -> Result<Imported, ImportError> {
        let job = |reply| Job::Import { items, reply };
        self.writes()?.ask(share, job).await?
    }

    fn writes(&self) -> Result<&Writes, StoreError> {
        match &*self.0 {
            Backend::File(file) => file.writes(),
            Backend::Database(shared) => Ok(shared.writes()),
        }
    }

    /// A receiver of each change from now on; `None` if there can be no more.
    pub(crate) fn changes(&self) -> Option<broadcast::Receiver<Event>> {
        match &*self.0 {
            Backend::File(file) => file.changes(),
            Backend::Database(shared) => Some(shared.changes()),
        }
    }

    /// Whether the data is available. A file always is, until it has [failed](Self::failed).
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        match &*self.0 {
            Backend::File(_) => watch::channel(Readiness::Ready).1,
            Backend::Database(shared) => shared.readiness(),
        }
    }

    /// Resolves when only a restart helps: the file can no longer be written, and every further write fails.
    pub async fn failed(&self) {
        match &*self.0 {
            Backend::File(file) => file.failed().await,
            Backend::Database(_) => std::future::pending().await,
        }
    }

    /// Registers the metrics of a database.
    pub fn register(self, registry: &mut Registry) {
        if let Backend::Database(_) = &*self.0 {
            countersign::base::metrics::register(registry, move |families| match &*self.0 {
                Backend::File(_) => Ok(()),
                Backend::Database(shared) => shared.write_metrics(families),
            });
        }
    }
}
