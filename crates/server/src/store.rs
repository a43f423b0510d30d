//! Stock and reservations: a few async functions that hide where they are kept.
//!
//! Two kinds stand side by side, with the same meaning: a file of this process alone ([`file`]), or a PostgreSQL database
//! that several servers share (`postgres`). Nothing outside this module knows which. It does not validate
//! requests and knows no gRPC.

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

use crate::stock::{Event, Page};
pub use crate::stock::{
    ImportError, Imported, Item, NewItem, NewReservation, OpenError, Reservation, ReserveError,
    StoreError,
};
use crate::store::file::DataFile;
pub use crate::store::link::Database;
use crate::store::postgres::Shared;
use crate::store::tables::Tables;
use crate::store::writes::{Job, Writes};

/// Changes that a watcher may be behind before it gets current levels instead; all watchers share them.
const KEPT_CHANGES: usize = 4096;

/// Where the data is, by a setting.
#[derive(Clone, Debug)]
pub enum Data {
    /// In a file of this process alone.
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

    /// Opens it. A database is asked with the credentials that `trust` opens as a client.
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

    /// Whether it could be opened, or made, without doing so: another server may have the file open. Call it within a
    /// tokio runtime, and not from a task.
    ///
    /// # Errors
    /// [`OpenError`], if it is unfit or out of reach.
    pub fn check(
        self,
        trust: impl FnOnce() -> Result<Trust, InvalidCredentials>,
    ) -> Result<(), OpenError> {
        match self {
            Self::File(path) => Store::check(&path),
            Self::Database(database) => {
                let runtime = tokio::runtime::Handle::current();
                runtime.block_on(Shared::check(database, trust()?))
            }
        }
    }
}

/// A handle on the data; clones share it. When the last one is dropped, a file is closed after the writes that are under
/// way, and so are the connections to a database.
#[derive(Clone, Debug)]
pub struct Store(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    File(DataFile),
    Database(Shared),
}

impl Store {
    /// Opens the data file, and creates it and its directories if need be.
    ///
    /// # Errors
    /// [`OpenError`], if the file is locked, damaged, foreign or out of reach.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let file = DataFile::open(path.into(), KEPT_CHANGES).await?;
        Ok(Self(Arc::new(Kind::File(file))))
    }

    /// Connects to a database, and brings its schema up to date. One that is away now, and may come back, is no error:
    /// the store is not ready until then.
    ///
    /// # Errors
    /// [`OpenError::Database`], if it cannot be used as it is.
    pub async fn connect(database: Database, trust: Trust) -> Result<Self, OpenError> {
        let shared = Shared::open(database, trust, KEPT_CHANGES).await?;
        Ok(Self(Arc::new(Kind::Database(shared))))
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
    /// [`StoreError`]
    pub async fn item(&self, sku: &str) -> Result<Option<Item>, StoreError> {
        Ok(self.page_of(sku).await?.items.into_iter().next())
    }

    /// One item, or none, and the revision that it was read at.
    pub(crate) async fn page_of(&self, sku: &str) -> Result<Page, StoreError> {
        match &*self.0 {
            Kind::File(file) => file.item(sku.to_owned()).await,
            Kind::Database(shared) => shared.item(sku).await,
        }
    }

    /// Up to `limit` items in the order of their SKUs, from the first one after `after`.
    pub(crate) async fn page(&self, after: String, limit: usize) -> Result<Page, StoreError> {
        match &*self.0 {
            Kind::File(file) => file.page(after, limit).await,
            Kind::Database(shared) => shared.page(&after, limit).await,
        }
    }

    /// Promises units to `caller`; on disk when this returns.
    ///
    /// The same caller, identifier, item and quantity again get the first answer again. A refusal leaves nothing
    /// behind. Another caller's identifiers are of no consequence.
    ///
    /// # Errors
    /// [`ReserveError`]; after [`StoreError::Failed`] and [`StoreError::Unavailable`] the reservation may have been made, so
    /// retry with the same id.
    pub async fn reserve(
        &self,
        caller: &str,
        wanted: NewReservation,
    ) -> Result<Reservation, ReserveError> {
        let caller = caller.to_owned();
        let job = |reply| Job::Reserve {
            caller,
            wanted,
            reply,
        };
        self.writes()?.ask(job).await?
    }

    /// Creates or sets all of the items, or none of them; on disk when this returns. Each SKU may come once.
    ///
    /// # Errors
    /// [`ImportError`]; after [`StoreError::Failed`] and [`StoreError::Unavailable`] the import may have happened.
    pub async fn import(&self, items: Vec<NewItem>) -> Result<Imported, ImportError> {
        let job = |reply| Job::Import { items, reply };
        self.writes()?.ask(job).await?
    }

    fn writes(&self) -> Result<&Writes, StoreError> {
        match &*self.0 {
            Kind::File(file) => file.writes(),
            Kind::Database(shared) => Ok(shared.writes()),
        }
    }

    /// Each change from now on, as long as there can be any.
    pub(crate) fn changes(&self) -> Option<broadcast::Receiver<Event>> {
        match &*self.0 {
            Kind::File(file) => file.changes(),
            Kind::Database(shared) => Some(shared.changes()),
        }
    }

    /// Whether the data is within reach. A file always is, until it has [failed](Self::failed).
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        match &*self.0 {
            Kind::File(_) => watch::channel(Readiness::Ready).1,
            Kind::Database(shared) => shared.readiness(),
        }
    }

    /// Ends when only a restart helps: the file can no longer be written, and every further write fails.
    pub async fn failed(&self) {
        match &*self.0 {
            Kind::File(file) => file.failed().await,
            Kind::Database(_) => std::future::pending().await,
        }
    }

    /// Registers the metrics of a database.
    pub fn register(self, registry: &mut Registry) {
        if let Kind::Database(_) = &*self.0 {
            countersign::base::metrics::register(registry, move |families| match &*self.0 {
                Kind::File(_) => Ok(()),
                Kind::Database(shared) => shared.write_metrics(families),
            });
        }
    }
}
