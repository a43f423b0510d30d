//! The store in a PostgreSQL database that several servers share.
//!
//! Writes are functions of the schema. One statement runs all writes that have queued up: it waits for its turn inside
//! the database, holds no lock across the network, and is on disk when it returns. A write that gets no response in
//! time may or may not have happened. Watching: a notification says that there may be changes, and the table of changes
//! says which, so a missed notification delays watchers by a second and loses no change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign::admin::Readiness;
use countersign::base::metrics::{CountBy, Families, NONE};
use countersign::base::text::in_one_line;
use countersign::mtls::Trust;
use countersign::prometheus_client::metrics::family::Family;
use countersign::prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use tracing::warn;

use crate::events;
use crate::stock::{
    Change, Event, ImportError, Imported, Item, ItemPage, NewItem, NewReservation, OpenError,
    Reservation, ReserveError, StoreError,
};
use crate::store::fault::DatabaseFault;
use crate::store::link::{Database, DatabaseDialer, Link};
use crate::store::writes::{Job, Writes};

/// Reservations that share a statement.
const WRITES_PER_STATEMENT: usize = 256;
/// The limit of concurrent reads; one more is refused. A call reads once at a time, and callers share the calls of a
/// server fairly, so this is as many as a server has by default.
const READS: usize = 4096;
/// How long a response may take: longer than a statement may, to allow for a slow network.
const ANSWER: Duration = Duration::from_secs(8);
/// How often to check for changes without a notification, and whether the database is available.
const LOOK: Duration = Duration::from_secs(1);
/// Changes that are read at a time.
const CHANGES: i64 = 1024;

const AWAY: Readiness = Readiness::NotReady("the database is away");

const ITEM: &str = "
    SELECT m.revision, i.sku, i.name, i.quantity, i.reserved FROM inventory.meta m
    LEFT JOIN inventory.items i ON i.sku = $1";
const PAGE: &str = "
    SELECT m.revision, i.sku, i.name, i.quantity, i.reserved FROM inventory.meta m
    LEFT JOIN (SELECT * FROM inventory.items WHERE sku > $1 ORDER BY sku LIMIT $2) i ON true ORDER BY i.sku";
const CHANGED: &str = "
    SELECT m.revision, c.sku, c.name, c.quantity, c.reserved, c.revision FROM inventory.meta m
    LEFT JOIN (SELECT * FROM inventory.changes WHERE revision > $1 ORDER BY revision LIMIT $2) c ON true
    ORDER BY c.revision";
const RESERVE: &str = "SELECT * FROM inventory.reserve($1, $2, $3, $4)";
const IMPORT: &str = "SELECT * FROM inventory.import($1, $2, $3)";

/// The shared database.
#[derive(Debug)]
pub(crate) struct SharedStore {
    reads: Asking,
    slots: Semaphore,
    writes: Writes,
    changes: broadcast::Sender<Event>,
    readiness: watch::Receiver<Readiness>,
    counts: Arc<Counts>,
    /// The tasks end when this is dropped.
    _tasks: JoinSet<()>,
}

impl SharedStore {
    pub(crate) async fn open(
        database: Database,
        trust: Trust,
        kept_changes: usize,
    ) -> Result<Self, OpenError> {
        let notified = Arc::new(Notify::new());
        let url = database.url().to_owned();
        let dialer = DatabaseDialer {
            database,
            trust,
            notified: notified.clone(),
        };
        let mut first = Vec::new();
        for _ in 0..2 {
            match dialer.connect().await {
                Ok(connected) => first.push(connected),
                // The links keep trying.
                Err(fault) if fault.may_pass() => break,
                Err(fault) => return Err(unusable(url, fault)),
            }
        }
        let counts = Arc::new(Counts::default());
        let mut asking = |name| Asking {
            link: Link::keep(
                name,
                dialer.clone(),
                first.pop(),
                counts.connections.clone(),
            ),
            counts: counts.clone(),
        };
        let (reads, for_writes) = (asking("reads"), asking("writes"));
        let (writes, queue) = Writes::new();
        let (changes, _) = broadcast::channel(kept_changes);
        let (ready, readiness) = watch::channel(AWAY);
        let mut follower = ChangeFollower {
            asking: reads.clone(),
            writes: for_writes.link.clone(),
            changes: changes.clone(),
            ready,
            seen: None,
        };
        // Before anybody watches, so that nothing is missed yet.
        follower.look().await;
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.follow(notified));
        tasks.spawn(write_all(for_writes, queue));
        Ok(Self {
            reads,
            slots: Semaphore::new(READS),
            writes,
            changes,
            readiness,
            counts,
            _tasks: tasks,
        })
    }

    /// Whether it can be used; its schema may be older.
    pub(crate) async fn check(database: Database, trust: Trust) -> Result<(), OpenError> {
        let url = database.url().to_owned();
        let dialer = DatabaseDialer {
            database,
            trust,
            notified: Arc::default(),
        };
        let connected = dialer.dial().await;
        connected.map(drop).map_err(|fault| unusable(url, fault))
    }

    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Event> {
        self.changes.subscribe()
    }

    pub(crate) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.clone()
    }

    pub(crate) async fn item(&self, sku: &str) -> Result<ItemPage, StoreError> {
        self.read(ITEM, &[(&sku, Type::TEXT)]).await
    }

    pub(crate) async fn page(&self, after: &str, limit: usize) -> Result<ItemPage, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(PAGE, &[(&after, Type::TEXT), (&limit, Type::INT8)])
            .await
    }

    async fn read(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<ItemPage, StoreError> {
        let slot = self.slots.try_acquire();
        let _slot = slot.map_err(|_none_left| StoreError::Busy)?;
        let page = |rows: Vec<Row>| {
            let revision = rows.first().map_or(Ok(0), |row| number(row, 0))?;
            let items = rows.iter().filter_map(|row| item(row).transpose());
            let items = items.collect::<Result<_, _>>()?;
            Ok(ItemPage { revision, items })
        };
        self.reads.ask("read", statement, parameters, page).await
    }

    pub(crate) fn write_metrics(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauge(
            "store_ready",
            "1 while the database answers, else 0.",
            [(
                NONE,
                u64::from(*self.readiness.borrow() == Readiness::Ready),
            )],
        )?;
        families.gauge(
            "store_waiting_writes",
            "Writes that wait for the statement before theirs.",
            [(
                NONE,
                u64::try_from(self.writes.waiting()).unwrap_or(u64::MAX),
            )],
        )?;
        families.metric(
            "store_statement_duration_seconds",
            "Statements that the database has answered, by what they do.",
            &self.counts.statements,
        )?;
        families.counter(
            "store_statements_failed",
            "Statements that were not answered, by why not.",
            self.counts.failed.samples("reason"),
        )?;
        families.counter(
            "store_connections",
            "What became of connections to the database.",
            self.counts.connections.samples("event"),
        )
    }
}

fn unusable(database: String, fault: DatabaseFault) -> OpenError {
    OpenError::Database {
        database,
        source: fault.into(),
    }
}

type Durations = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

#[derive(Debug)]
struct Counts {
    statements: Durations,
    failed: CountBy,
    connections: Arc<CountBy>,
}

impl Default for Counts {
    fn default() -> Self {
        let buckets = || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]);
        Self {
            statements: Family::new_with_constructor(buckets),
            failed: CountBy::default(),
            connections: Arc::default(),
        }
    }
}

/// Runs a statement over a link, and counts it.
#[derive(Clone, Debug)]
struct Asking {
    link: Link,
    counts: Arc<Counts>,
}

impl Asking {
    /// The result that `read` gets from the rows of a statement. They arrive after the commit.
    async fn ask<T>(
        &self,
        name: &'static str,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        read: impl FnOnce(Vec<Row>) -> Result<T, DatabaseFault>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let asked = timeout(ANSWER, async {
            let client = self.link.client().await?;
            Ok(client.query_typed(statement, parameters).await?)
        });
        let asked = asked.await.unwrap_or_else(|_elapsed| {
            // It may hang for good.
            self.link.doubt();
            Err(DatabaseFault::TimedOut)
        });
        match asked.and_then(read) {
            Ok(found) => {
                let durations = self.counts.statements.get_or_create(&[("statement", name)]);
                durations.observe(begun.elapsed().as_secs_f64());
                Ok(found)
            }
            Err(fault) => {
                self.counts.failed.add(fault.reason());
                let error = in_one_line(&fault);
                warn!(statement = name, error, "{}", events::STATEMENT_FAILED);
                Err(StoreError::Unavailable)
            }
        }
    }
}

/// Runs the queued writes until the queue is closed: all reservations in one statement, each import in its own.
async fn write_all(asking: Asking, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(WRITES_PER_STATEMENT);
    while queue.recv_many(&mut batch, WRITES_PER_STATEMENT).await > 0 {
        let (mut callers, mut wanted, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        let mut imports = Vec::new();
        for job in batch.drain(..).filter(|job| !job.is_abandoned()) {
            match job {
                Job::Reserve {
                    caller,
                    wanted: one,
                    reply,
                } => {
                    callers.push(caller);
                    wanted.push(one);
                    replies.push(reply);
                }
                Job::Import { items, reply } => imports.push((items, reply)),
            }
        }
        if !wanted.is_empty() {
            let made = reserve(&asking, &callers, &wanted).await;
            let made = made.unwrap_or_else(|error| vec![Err(error.into()); wanted.len()]);
            // A caller that has gone away, and retries, gets the first response.
            replies
                .into_iter()
                .zip(made)
                .for_each(|(reply, made)| reply.send(made));
        }
        for (items, reply) in imports {
            reply.send(import(&asking, &items).await);
        }
    }
}

async fn reserve(
    asking: &Asking,
    callers: &[String],
    wanted: &[NewReservation],
) -> Result<Vec<Result<Reservation, ReserveError>>, StoreError> {
    let ids: Vec<_> = wanted.iter().map(|one| one.id).collect();
    let skus: Vec<_> = wanted.iter().map(|one| &*one.sku).collect();
    let quantities: Vec<_> = wanted.iter().map(|one| i64::from(one.quantity)).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&callers, Type::TEXT_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&skus, Type::TEXT_ARRAY),
        (&quantities, Type::INT8_ARRAY),
    ];
    let outcomes = |rows: Vec<Row>| {
        let each = wanted.iter().zip(&rows);
        each.map(|(wanted, row)| outcome(row, wanted)).collect()
    };
    asking.ask("reserve", RESERVE, &parameters, outcomes).await
}

fn outcome(
    row: &Row,
    wanted: &NewReservation,
) -> Result<Result<Reservation, ReserveError>, DatabaseFault> {
    let available = number(row, 1);
    Ok(match row.try_get(0)? {
        "made" => Ok(Reservation {
            id: wanted.id,
            sku: wanted.sku.clone(),
            quantity: wanted.quantity,
            available: available?,
        }),
        "short" => Err(ReserveError::InsufficientStock {
            available: available?,
        }),
        "reused" => Err(ReserveError::IdReused),
        "unknown" => Err(ReserveError::SkuUnknown),
        _ => return Err(DatabaseFault::Meaningless),
    })
}

async fn import(asking: &Asking, items: &[NewItem]) -> Result<Imported, ImportError> {
    let skus: Vec<_> = items.iter().map(|item| &*item.sku).collect();
    let names: Vec<_> = items.iter().map(|item| &*item.name).collect();
    let quantities: Vec<_> = items.iter().map(|item| i64::from(item.quantity)).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&skus, Type::TEXT_ARRAY),
        (&names, Type::TEXT_ARRAY),
        (&quantities, Type::INT8_ARRAY),
    ];
    let imported = |rows: Vec<Row>| {
        let row = rows.first().ok_or(DatabaseFault::Meaningless)?;
        if let Some(sku) = row.try_get(2)? {
            return Ok(Err(ImportError::BelowReserved {
                sku,
                quantity: number(row, 3)?,
                reserved: number(row, 4)?,
            }));
        }
        let (created, updated) = (number(row, 0)?, number(row, 1)?);
        let all = u32::try_from(items.len()).unwrap_or(u32::MAX);
        Ok(Ok(Imported {
            created,
            updated,
            unchanged: all.saturating_sub(created).saturating_sub(updated),
        }))
    };
    asking.ask("import", IMPORT, &parameters, imported).await?
}

/// An unsigned number, which the database stores as a signed one.
fn number<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T, DatabaseFault> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_out_of_range| DatabaseFault::Meaningless)
}

/// The item of a row, which may have none.
fn item(row: &Row) -> Result<Option<Item>, DatabaseFault> {
    let Some(sku) = row.try_get(1)? else {
        return Ok(None);
    };
    Ok(Some(Item {
        sku,
        name: row.try_get(2)?,
        quantity: number(row, 3)?,
        reserved: number(row, 4)?,
    }))
}

/// Tells watchers what changed, and publishes whether the database is available.
struct ChangeFollower {
    asking: Asking,
    writes: Link,
    changes: broadcast::Sender<Event>,
    ready: watch::Sender<Readiness>,
    /// The last change that watchers were told of; `None` when they have to list again.
    seen: Option<i64>,
}

impl ChangeFollower {
    async fn follow(mut self, notified: Arc<Notify>) {
        loop {
            tokio::select! {
                () = notified.notified() => {}
                () = sleep(LOOK) => {}
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let up = loop {
            match self.tell().await {
                Ok(true) => {}
                Ok(false) => break self.writes.is_up(),
                Err(StoreError::Busy | StoreError::Unavailable | StoreError::Failed) => {
                    // After a failover, the database may be one that lagged behind.
                    self.seen = None;
                    break false;
                }
            }
        };
        let now = if up { Readiness::Ready } else { AWAY };
        self.ready.send_if_modified(|before| {
            let changes = *before != now;
            *before = now;
            changes
        });
    }

    /// Publishes the next changes. Returns whether there may be more.
    async fn tell(&mut self) -> Result<bool, StoreError> {
        let after = self.seen.unwrap_or(i64::MAX);
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&after, Type::INT8), (&CHANGES, Type::INT8)];
        let read = |rows: Vec<Row>| {
            let newest: i64 = rows.first().ok_or(DatabaseFault::Meaningless)?.try_get(0)?;
            let mut changes = Vec::new();
            for row in &rows {
                if let Some(item) = item(row)? {
                    changes.push((row.try_get::<_, i64>(5)?, item));
                }
            }
            Ok((newest, changes))
        };
        let (newest, changes) = self
            .asking
            .ask("changes", CHANGED, &parameters, read)
            .await?;
        let told = match (self.seen, changes.first()) {
            (Some(seen), Some((first, _))) => *first == seen + 1,
            (Some(seen), None) => newest == seen,
            (None, _) => false,
        };
        if !told {
            // An error means that there are no watchers, here and below.
            drop(self.changes.send(Event::Missed));
            self.seen = Some(newest);
            return Ok(false);
        }
        let more = i64::try_from(changes.len()).is_ok_and(|count| count == CHANGES);
        for (at, item) in changes {
            self.seen = Some(at);
            let revision = u64::try_from(at).unwrap_or(0);
            let change = Change { revision, item };
            drop(self.changes.send(Event::Changed(Arc::new(change))));
        }
        Ok(more)
    }
}
