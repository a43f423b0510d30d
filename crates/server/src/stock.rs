//! Items and reservations, and the errors of reserving and importing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use countersign::mtls::InvalidCredentials;
use thiserror::Error;
use uuid::Uuid;

/// An item and its stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub sku: String,
    /// A name for people.
    pub name: String,
    /// Units in stock, reserved ones included.
    pub quantity: u32,
    /// Units reserved; never more than `quantity`.
    pub reserved: u32,
}

impl Item {
    /// Units that can still be reserved.
    pub fn available(&self) -> u32 {
        self.quantity.saturating_sub(self.reserved)
    }
}

/// An item to create, or to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// The key.
    pub sku: String,
    /// A name for people.
    pub name: String,
    /// Units in stock, reserved ones included.
    pub quantity: u32,
}

/// A reservation to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReservation {
    /// The caller's identifier for it; the same one is the same reservation.
    pub id: Uuid,
    /// The item.
    pub sku: String,
    /// Units to promise, at least 1.
    pub quantity: u32,
}

/// A reservation that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The caller's identifier for it.
    pub id: Uuid,
    /// The item.
    pub sku: String,
    /// Units reserved.
    pub quantity: u32,
    /// Units of the item that were still available right after.
    pub available: u32,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Items that were new.
    pub created: u32,
    /// Items whose name or quantity was changed.
    pub updated: u32,
    /// Items that were unchanged.
    pub unchanged: u32,
}

/// One committed change of one item.
#[derive(Debug)]
pub(crate) struct Change {
    /// Never shrinks from one change to the next. A page that was read at this revision, or a later one, has the
    /// change.
    pub(crate) revision: u64,
    pub(crate) item: Item,
}

/// A message to watchers.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Changed(Arc<Change>),
    /// There may have been changes that are not reported one by one.
    Missed,
}

/// Some items, and the revision of the data that they were read at.
#[derive(Debug)]
pub(crate) struct ItemPage {
    pub(crate) revision: u64,
    pub(crate) items: Vec<Item>,
}

/// Why the data cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL of the database is invalid.
    #[error("the URL of the database cannot be used: {0}")]
    Url(String),
    /// The credentials for the database cannot be used.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// The database cannot be used as it is.
    #[error("cannot use the database {database}")]
    Database {
        /// Its URL.
        database: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its directory does not exist and cannot be made.
    #[error("cannot create {}, the directory of the data file", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use: stop the other server, or name another data file", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is to be made in a directory that we cannot write to.
    #[error("cannot write to {}, the directory of the data file", directory.display())]
    Unwritable {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system does not let us read and write it.
    #[error("cannot read and write the data file {}: check its owner, its mode and the disk", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is empty; a data file never is.
    #[error("the data file {} is empty, so what it held is lost: restore a copy, or remove it to start with nothing", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its content is not what was written.
    #[error("{} is damaged or not a data file: restore a copy, or move it away to start empty", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is a valid file of another program.
    #[error("{} belongs to another program: name another data file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a version of this program with another schema.
    #[error("{} has schema {found} and this program knows schema {known}: run the version that wrote it", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema of the file.
        found: u64,
        /// The schema that this program reads and writes.
        known: u64,
    },
}

/// Why an operation of the store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Too much is waiting. Nothing was done; the same request can succeed later.
    #[error("too much is waiting for the disk or the database")]
    Busy,
    /// The database is away, or did not answer in time. A write may or may not have happened; the same request can
    /// succeed later.
    #[error("the database did not answer")]
    Unavailable,
    /// The data could not be read or written. A write may or may not have happened; the log has the cause.
    #[error("the data could not be read or written")]
    Failed,
}

/// Why no reservation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReserveError {
    /// There is no such item.
    #[error("no such item")]
    SkuUnknown,
    /// Fewer units can be reserved than were asked for.
    #[error("only {available} units are available")]
    InsufficientStock {
        /// Units that could be reserved.
        available: u32,
    },
    /// The caller has used the identifier for a reservation of another item or quantity.
    #[error("the identifier belongs to another reservation")]
    IdReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing was imported.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// An item would have fewer units than are reserved.
    #[error("{reserved} units of {sku} are reserved, which is more than {quantity}")]
    BelowReserved {
        /// The item.
        sku: String,
        /// The quantity to set.
        quantity: u32,
        /// Units that are reserved.
        reserved: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
