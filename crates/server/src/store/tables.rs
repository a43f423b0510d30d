//! The data file: its tables, its schema version, and the rules that one transaction keeps.
//!
//! The only module that names redb. It waits for nothing but the disk, and a refused
//! operation changes nothing.

use std::error::Error;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use countersign::base::file::denied;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    Table, TableDefinition, TableHandle,
};

use uuid::Uuid;

use crate::stock::{
    ImportError, Imported, Item, ItemPage, NewItem, NewReservation, OpenError, Reservation,
    ReserveError,
};

/// The schema version of the file: raised when a table changes, so that an older program refuses a newer file.
const SCHEMA: u64 = 1;
/// A cache for the pages in use; the rest is the operating system's.
const CACHE_BYTES: usize = 16 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";
const REVISION_KEY: &str = "revision";
/// SKU -> name, quantity, reserved.
const ITEMS: TableDefinition<'_, &str, (&str, u32, u32)> = TableDefinition::new("items");
/// Caller, reservation id -> SKU, quantity, available right after.
const RESERVATIONS: TableDefinition<'_, (&str, u128), (&str, u32, u32)> =
    TableDefinition::new("reservations");

/// The file could not be read or written.
pub(crate) type FileFault = redb::Error;

#[derive(Debug)]
pub(crate) struct Tables {
    database: Database,
    path: PathBuf,
    /// The file that is open, by device and number.
    file: (u64, u64),
}

/// The effects of a write: the items it changed, in order, and the revision that it made.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) revision: u64,
    pub(crate) changed: Vec<Item>,
}

impl Tables {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let found = found(path)?;
        let parent = parent(path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|source| OpenError::Directory {
                directory: parent.to_owned(),
                source: denied(parent, source),
            })?;
        if found.is_none() {
            create(path)?;
        }
        let database = builder().open(path).map_err(|error| explain(path, error))?;
        let file = fs::metadata(path).map_err(unusable(path))?;
        let tables = Self {
            database,
            path: path.to_owned(),
            file: number(&file),
        };
        match tables
            .found_schema()
            .map_err(|source| damaged(path, source))?
        {
            WriteOutcome::Schema(SCHEMA) => Ok(tables),
            WriteOutcome::Schema(found) => Err(OpenError::Schema {
                path: path.to_owned(),
                found,
                known: SCHEMA,
            }),
            WriteOutcome::Nothing => {
                create_schema(&tables.database).map_err(|source| damaged(path, source))?;
                Ok(tables)
            }
            WriteOutcome::SomethingElse => Err(OpenError::Foreign {
                path: path.to_owned(),
            }),
        }
    }

    /// Whether `path` can be opened, or made, as far as can be found without opening it as a data file.
    pub(crate) fn check(path: &Path) -> Result<(), OpenError> {
        if found(path)?.is_some() {
            let file = OpenOptions::new().read(true).write(true).open(path);
            return file.map(drop).map_err(unusable(path));
        }
        // The part of its directory that is there.
        let there = parent(path).ancestors().find(|parent| parent.exists());
        let there = there.filter(|there| !there.as_os_str().is_empty());
        let there = there.unwrap_or(Path::new("."));
        let trial = there.join(format!(".check-{}", std::process::id()));
        let tried = File::create_new(&trial).and_then(|_file| fs::remove_file(&trial));
        tried.map_err(|source| {
            let directory = parent(path).to_owned();
            let source = denied(&trial, source);
            if there == directory {
                OpenError::Unwritable { directory, source }
            } else {
                OpenError::Directory { directory, source }
            }
        })
    }

    /// Whether the open file still has its name. Writes to a file without it are lost.
    pub(crate) fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| number(&file) == self.file)
    }

    /// One item, or none.
    pub(crate) fn item(&self, sku: &str) -> Result<ItemPage, FileFault> {
        let transaction = self.database.begin_read()?;
        let revision = revision(&transaction.open_table(META)?)?;
        let items = transaction.open_table(ITEMS)?;
        let found = items.get(sku)?.map(|row| item(sku, row.value()));
        Ok(ItemPage {
            revision,
            items: found.into_iter().collect(),
        })
    }

    /// Up to `limit` items in the order of their SKUs, from the first one after `after`.
    pub(crate) fn page(&self, after: &str, limit: usize) -> Result<ItemPage, FileFault> {
        let transaction = self.database.begin_read()?;
        let revision = revision(&transaction.open_table(META)?)?;
        let items = transaction
            .open_table(ITEMS)?
            .range::<&str>((Bound::Excluded(after), Bound::Unbounded))?
            .take(limit)
            .map(|row| row.map(|(sku, row)| item(sku.value(), row.value())))
            .collect::<Result<_, _>>()?;
        Ok(ItemPage { revision, items })
    }

    /// Runs `work` in one transaction, which is on disk when this returns.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, FileFault>,
    ) -> Result<(T, Written), FileFault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Callers choose what is written, so a torn commit is not left to a checksum that they could forge.
        transaction.set_two_phase_commit(true);
        let (done, written) = {
            let mut meta = transaction.open_table(META)?;
            let mut tables = Transaction {
                items: transaction.open_table(ITEMS)?,
                reservations: transaction.open_table(RESERVATIONS)?,
                changed: Vec::new(),
            };
            let done = work(&mut tables)?;
            let changed = tables.changed;
            let mut revision = revision(&meta)?;
            if !changed.is_empty() {
                revision += 1;
                meta.insert(REVISION_KEY, revision)?;
            }
            (done, Written { revision, changed })
        };
        if written.changed.is_empty() {
            transaction.abort()?;
        } else {
            transaction.commit()?;
        }
        Ok((done, written))
    }

    fn found_schema(&self) -> Result<WriteOutcome, FileFault> {
        let transaction = self.database.begin_read()?;
        let tables: Vec<String> = transaction
            .list_tables()?
            .map(|table| table.name().to_owned())
            .collect();
        if tables.is_empty() {
            return Ok(WriteOutcome::Nothing);
        }
        if !tables.iter().any(|table| table == META.name()) {
            return Ok(WriteOutcome::SomethingElse);
        }
        let meta = transaction.open_table(META)?;
        Ok(meta
            .get(SCHEMA_KEY)?
            .map_or(WriteOutcome::SomethingElse, |schema| {
                WriteOutcome::Schema(schema.value())
            }))
    }
}

fn create_schema(database: &Database) -> Result<(), FileFault> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(RESERVATIONS)?;
    transaction.commit()?;
    Ok(())
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// A new data file, unless another server makes one meanwhile. It gets its name when it is complete, so an interrupted
/// start leaves no empty file.
fn create(path: &Path) -> Result<(), OpenError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.new", Uuid::now_v7()));
    let unfinished = PathBuf::from(unfinished);
    let made = create_at(path, &unfinished).and_then(|()| {
        match fs::hard_link(&unfinished, path) {
            // It is the one to be opened.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.map_err(unusable(path)),
        }
    });
    // If it cannot be removed, it stays: its name belongs to no other start.
    fs::remove_file(&unfinished).ok();
    made?;
    // A new file is durable once its name is.
    File::open(parent(path))
        .and_then(|directory| directory.sync_all())
        .map_err(unusable(path))
}

fn create_at(path: &Path, unfinished: &Path) -> Result<(), OpenError> {
    // It is made here for the sake of its mode.
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(unfinished);
    drop(made.map_err(|source| OpenError::Unwritable {
        directory: parent(path).to_owned(),
        source: denied(unfinished, source),
    })?);
    let database = builder()
        .create(unfinished)
        .map_err(|error| explain(path, error))?;
    create_schema(&database).map_err(|source| damaged(path, source))
}

/// The data file, if there is one. An empty file is not replaced: it was a data file once, or is being restored.
fn found(path: &Path) -> Result<Option<Metadata>, OpenError> {
    match fs::metadata(path) {
        Ok(file) if file.is_file() && file.len() == 0 => Err(OpenError::Empty {
            path: path.to_owned(),
        }),
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Creating its directory says what is wrong with it.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(source) => Err(unusable(path)(source)),
    }
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn number(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn unusable(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Unusable {
        path: path.clone(),
        source: denied(&path, source).into(),
    }
}

enum WriteOutcome {
    Schema(u64),
    Nothing,
    SomethingElse,
}

/// The tables inside one write. A refusal is a result, and changes nothing.
pub(crate) struct Transaction<'t> {
    items: Table<'t, &'static str, (&'static str, u32, u32)>,
    reservations: Table<'t, (&'static str, u128), (&'static str, u32, u32)>,
    changed: Vec<Item>,
}

impl Transaction<'_> {
    pub(crate) fn reserve(
        &mut self,
        caller: &str,
        wanted: &NewReservation,
    ) -> Result<Result<Reservation, ReserveError>, FileFault> {
        let key = (caller, wanted.id.as_u128());
        if let Some(first) = self.reservations.get(key)? {
            let (sku, quantity, available) = first.value();
            if (sku, quantity) != (wanted.sku.as_str(), wanted.quantity) {
                return Ok(Err(ReserveError::IdReused));
            }
            return Ok(Ok(reservation(wanted, available)));
        }
        let found = self
            .items
            .get(wanted.sku.as_str())?
            .map(|row| item(&wanted.sku, row.value()));
        let Some(mut item) = found else {
            return Ok(Err(ReserveError::SkuUnknown));
        };
        let available = item.available();
        let Some(left) = available.checked_sub(wanted.quantity) else {
            return Ok(Err(ReserveError::InsufficientStock { available }));
        };
        item.reserved = item.quantity - left;
        self.put(item)?;
        self.reservations
            .insert(key, (wanted.sku.as_str(), wanted.quantity, left))?;
        Ok(Ok(reservation(wanted, left)))
    }

    pub(crate) fn import(
        &mut self,
        items: &[NewItem],
    ) -> Result<Result<Imported, ImportError>, FileFault> {
        let mut imported = Imported::default();
        let mut changes = Vec::new();
        for new in items {
            let old = self
                .items
                .get(new.sku.as_str())?
                .map(|row| item(&new.sku, row.value()));
            let reserved = old.as_ref().map_or(0, |old| old.reserved);
            if new.quantity < reserved {
                return Ok(Err(ImportError::BelowReserved {
                    sku: new.sku.clone(),
                    quantity: new.quantity,
                    reserved,
                }));
            }
            match old {
                Some(old) if old.name == new.name && old.quantity == new.quantity => {
                    imported.unchanged += 1;
                    continue;
                }
                Some(_) => imported.updated += 1,
                None => imported.created += 1,
            }
            changes.push(Item {
                sku: new.sku.clone(),
                name: new.name.clone(),
                quantity: new.quantity,
                reserved,
            });
        }
        for item in changes {
            self.put(item)?;
        }
        Ok(Ok(imported))
    }

    fn put(&mut self, item: Item) -> Result<(), FileFault> {
        self.items.insert(
            item.sku.as_str(),
            (item.name.as_str(), item.quantity, item.reserved),
        )?;
        self.changed.push(item);
        Ok(())
    }
}

fn item(sku: &str, (name, quantity, reserved): (&str, u32, u32)) -> Item {
    Item {
        sku: sku.to_owned(),
        name: name.to_owned(),
        quantity,
        reserved,
    }
}

fn reservation(wanted: &NewReservation, available: u32) -> Reservation {
    Reservation {
        id: wanted.id,
        sku: wanted.sku.clone(),
        quantity: wanted.quantity,
        available,
    }
}

fn revision(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, FileFault> {
    Ok(meta
        .get(REVISION_KEY)?
        .map_or(0, |revision| revision.value()))
}

fn explain(path: &Path, error: DatabaseError) -> OpenError {
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return OpenError::Locked {
            path: path.to_owned(),
        };
    }
    if let DatabaseError::Storage(StorageError::Io(source)) = &error
        && !matches!(
            source.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        )
    {
        return OpenError::Unusable {
            path: path.to_owned(),
            source: error.into(),
        };
    }
    damaged(path, error)
}

fn damaged(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> OpenError {
    OpenError::Damaged {
        path: PathBuf::from(path),
        source: source.into(),
    }
}
