//! What every kind of store promises: after a crash, under contention, and to watchers. Each case runs on a data file,
//! and on a PostgreSQL database of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::fs;
use std::pin::Pin;
use std::sync::Arc;

use server::store::{ImportError, Imported, NewItem, ReserveError, Store, StoreError};
use server::watch::{Level, Watch};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

#[path = "support/stock.rs"]
mod stock;
#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use stock::{item, level, reservation};
use support::{Cluster, Pki};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Done = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

type Case = (&'static str, fn(TestStore) -> Done);

const CASES: &[Case] = &[
    (
        "what was acknowledged is durable at once and is answered again from there",
        |place| {
            Box::pin(
                what_was_acknowledged_is_durable_at_once_and_is_answered_again_from_there(place),
            )
        },
    ),
    ("an identifier is one reservation of one caller", |place| {
        Box::pin(an_identifier_is_one_reservation_of_one_caller(place))
    }),
    (
        "a refused reservation leaves nothing and is judged anew",
        |place| {
            Box::pin(a_refused_reservation_leaves_nothing_and_is_judged_anew(
                place,
            ))
        },
    ),
    (
        "an import is all or nothing and keeps reservations",
        |place| Box::pin(an_import_is_all_or_nothing_and_keeps_reservations(place)),
    ),
    (
        "concurrent reservations never promise more than there is",
        |place| {
            Box::pin(concurrent_reservations_never_promise_more_than_there_is(
                place,
            ))
        },
    ),
    (
        "writes that do not fit the queue are refused and the others are kept",
        |place| {
            Box::pin(writes_that_do_not_fit_the_queue_are_refused_and_the_others_are_kept(place))
        },
    ),
    (
        "a watcher gets the levels of now and then each change",
        |place| Box::pin(a_watcher_gets_the_levels_of_now_and_then_each_change(place)),
    ),
    (
        "a watcher that lags gets the levels of now again",
        |place| Box::pin(a_watcher_that_lags_gets_the_levels_of_now_again(place)),
    ),
    (
        "watchers never see an older level and end at the last one",
        |place| {
            Box::pin(watchers_never_see_an_older_level_and_end_at_the_last_one(
                place,
            ))
        },
    ),
    (
        "names of any length and items in the order of their bytes",
        |place| {
            Box::pin(names_of_any_length_and_items_in_the_order_of_their_bytes(
                place,
            ))
        },
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_keeps_every_promise() -> Result<(), Failure> {
    for (name, case) in CASES {
        let place = TestStore::File(TempDir::new()?);
        case(place)
            .await
            .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_keeps_every_promise() -> Result<(), Failure> {
    let pki = Arc::new(Pki::new());
    let Some(cluster) = Cluster::start(&pki) else {
        return Ok(());
    };
    for (name, case) in CASES {
        let url = cluster.url(&cluster.create());
        let place = TestStore::Database(url, pki.clone());
        case(place)
            .await
            .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Where a case keeps its data.
enum TestStore {
    File(TempDir),
    Database(String, Arc<Pki>),
}

impl TestStore {
    async fn store_with(&self, items: impl IntoIterator<Item = NewItem>) -> Result<Store, Failure> {
        let store = match self {
            Self::File(dir) => Store::open(dir.path().join("inventory.redb")).await?,
            Self::Database(url, pki) => {
                Store::connect(url.parse()?, pki.trust("inventory")).await?
            }
        };
        store.import(items.into_iter().collect()).await?;
        Ok(store)
    }

    /// What another process finds after a kill at this moment.
    async fn after_a_kill(&self) -> Result<Store, Failure> {
        match self {
            Self::File(dir) => {
                // The bytes that are left behind.
                let left = dir.path().join(format!("left-{}.redb", Uuid::new_v4()));
                fs::copy(dir.path().join("inventory.redb"), &left)?;
                Ok(Store::open(&left).await?)
            }
            Self::Database(..) => self.store_with([]).await,
        }
    }
}

async fn what_was_acknowledged_is_durable_at_once_and_is_answered_again_from_there(
    place: TestStore,
) -> Result<(), Failure> {
    let store = place.store_with([item("bolt", 100)]).await?;
    for n in 1..=5 {
        let wanted = reservation(n.into(), "bolt", n);
        let first = store.reserve("orders", wanted.clone()).await?;

        let restarted = place.after_a_kill().await?;
        assert_eq!(restarted.item("bolt").await?, store.item("bolt").await?);
        assert_eq!(restarted.reserve("orders", wanted).await?, first);
        assert_eq!(
            restarted.item("bolt").await?.map(|it| it.reserved),
            Some((1..=n).sum()),
            "the retry took units again"
        );
    }
    Ok(())
}

async fn an_identifier_is_one_reservation_of_one_caller(place: TestStore) -> Result<(), Failure> {
    let store = place
        .store_with([item("bolt", 10), item("nut", 10)])
        .await?;
    let first = store.reserve("orders", reservation(7, "bolt", 4)).await?;
    assert_eq!(first.available, 6);
    store.reserve("orders", reservation(8, "bolt", 1)).await?;

    let again = store.reserve("orders", reservation(7, "bolt", 4)).await?;
    assert_eq!(
        again, first,
        "a retry gets the first answer, not the level of now"
    );
    for other in [
        reservation(7, "bolt", 5),
        reservation(7, "nut", 4),
        reservation(7, "none", 4),
    ] {
        assert_eq!(
            store.reserve("orders", other).await,
            Err(ReserveError::IdReused)
        );
    }
    let others = store.reserve("billing", reservation(7, "nut", 4)).await?;
    assert_eq!(
        others.available, 6,
        "another caller's identifier is another reservation"
    );
    assert_eq!(store.item("bolt").await?.map(|bolt| bolt.reserved), Some(5));
    Ok(())
}

async fn a_refused_reservation_leaves_nothing_and_is_judged_anew(
    place: TestStore,
) -> Result<(), Failure> {
    let store = place.store_with([item("bolt", 3)]).await?;
    let too_many = reservation(1, "bolt", 4);
    let refused = Err(ReserveError::InsufficientStock { available: 3 });
    assert_eq!(store.reserve("orders", too_many.clone()).await, refused);
    let unknown = store.reserve("orders", reservation(2, "nut", 1)).await;
    assert_eq!(unknown, Err(ReserveError::SkuUnknown));

    store.import(vec![item("bolt", 4)]).await?;
    assert_eq!(store.reserve("orders", too_many).await?.available, 0);
    Ok(())
}

async fn an_import_is_all_or_nothing_and_keeps_reservations(
    place: TestStore,
) -> Result<(), Failure> {
    let store = place
        .store_with([item("bolt", 10), item("nut", 10)])
        .await?;
    store.reserve("orders", reservation(1, "nut", 6)).await?;

    let refused = store
        .import(vec![item("bolt", 99), item("cog", 1), item("nut", 5)])
        .await;
    let below = ImportError::BelowReserved {
        sku: "nut".to_owned(),
        quantity: 5,
        reserved: 6,
    };
    assert_eq!(refused, Err(below));
    assert_eq!(
        store.item("bolt").await?.map(|bolt| bolt.quantity),
        Some(10)
    );
    assert_eq!(store.item("cog").await?, None);

    let items = vec![item("bolt", 10), item("cog", 1), item("nut", 6)];
    let imported = |created, updated, unchanged| Imported {
        created,
        updated,
        unchanged,
    };
    assert_eq!(store.import(items.clone()).await?, imported(1, 1, 1));
    assert_eq!(store.import(items).await?, imported(0, 0, 3));
    assert_eq!(
        store
            .item("nut")
            .await?
            .map(|nut| (nut.reserved, nut.available())),
        Some((6, 0))
    );
    Ok(())
}

async fn concurrent_reservations_never_promise_more_than_there_is(
    place: TestStore,
) -> Result<(), Failure> {
    let store = place
        .store_with([item("bolt", 500), item("nut", 300)])
        .await?;
    let mut tasks = JoinSet::new();
    for n in 0..400_u32 {
        let (store, sku) = (store.clone(), if n % 3 == 0 { "nut" } else { "bolt" });
        tasks.spawn(async move {
            let wanted = reservation(n.into(), sku, 1 + n % 7);
            // Twice at once, as a hedged or retried call is.
            let (one, two) = tokio::join!(
                store.reserve("orders", wanted.clone()),
                store.reserve("orders", wanted.clone())
            );
            if let (Ok(one), Ok(two)) = (&one, &two) {
                assert_eq!(one, two);
            }
            (wanted, one.or(two))
        });
    }
    let mut promised = HashMap::new();
    let mut refused = Vec::new();
    for (wanted, answer) in tasks.join_all().await {
        match answer {
            Ok(made) => *promised.entry(made.sku).or_insert(0) += made.quantity,
            Err(ReserveError::InsufficientStock { available }) => {
                assert!(available < wanted.quantity);
                refused.push(wanted);
            }
            Err(other) => return Err(other.into()),
        }
    }
    assert!(!refused.is_empty(), "the stock was meant to run out");
    for sku in ["bolt", "nut"] {
        let left = store.item(sku).await?.ok_or("gone")?;
        assert_eq!(
            promised.get(sku),
            Some(&left.reserved),
            "{sku}: acknowledged and kept differ"
        );
        assert!(left.reserved <= left.quantity);
        let smallest = refused
            .iter()
            .filter(|wanted| wanted.sku == sku)
            .map(|wanted| wanted.quantity)
            .min();
        assert!(
            smallest.is_none_or(|smallest| smallest > left.available()),
            "{sku}: refused though available"
        );
    }
    Ok(())
}

async fn writes_that_do_not_fit_the_queue_are_refused_and_the_others_are_kept(
    place: TestStore,
) -> Result<(), Failure> {
    let store = place.store_with([item("bolt", 1_000_000)]).await?;
    let mut tasks = JoinSet::new();
    for n in 0..20_000_u32 {
        let store = store.clone();
        tasks.spawn(async move {
            store
                .reserve("orders", reservation(n.into(), "bolt", 1))
                .await
        });
    }
    let answers = tasks.join_all().await;
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    let busy = Err(ReserveError::Store(StoreError::Busy));
    assert_eq!(
        made + answers.iter().filter(|answer| **answer == busy).count(),
        answers.len()
    );
    assert!(
        (1..answers.len()).contains(&made),
        "{made} of {} were made",
        answers.len()
    );
    let bolt = store.item("bolt").await?.ok_or("gone")?;
    assert_eq!(usize::try_from(bolt.reserved)?, made);
    Ok(())
}

async fn a_watcher_gets_the_levels_of_now_and_then_each_change(
    place: TestStore,
) -> Result<(), Failure> {
    let store = place
        .store_with([item("bolt", 10), item("nut", 20)])
        .await?;
    let mut all = store.watch(None)?;
    let mut nuts = store.watch(Some("nut".to_owned()))?;
    assert_eq!(all.next().await?, Level::Current(level("bolt", 10, 0)));
    assert_eq!(all.next().await?, Level::Current(level("nut", 20, 0)));
    assert_eq!(nuts.next().await?, Level::Current(level("nut", 20, 0)));

    store.reserve("orders", reservation(1, "bolt", 1)).await?;
    store.reserve("orders", reservation(1, "bolt", 1)).await?;
    store.reserve("orders", reservation(2, "nut", 2)).await?;
    store.reserve("orders", reservation(3, "nut", 3)).await?;
    store.import(vec![item("cog", 5), item("nut", 20)]).await?;
    assert_eq!(all.next().await?, Level::Changed(level("bolt", 10, 1)));
    assert_eq!(all.next().await?, Level::Changed(level("nut", 20, 2)));
    assert_eq!(all.next().await?, Level::Changed(level("nut", 20, 5)));
    assert_eq!(
        all.next().await?,
        Level::Changed(level("cog", 5, 0)),
        "unchanged items are no news"
    );
    assert_eq!(nuts.next().await?, Level::Changed(level("nut", 20, 2)));
    assert_eq!(nuts.next().await?, Level::Changed(level("nut", 20, 5)));
    Ok(())
}

async fn a_watcher_that_lags_gets_the_levels_of_now_again(place: TestStore) -> Result<(), Failure> {
    let many: Vec<_> = (0..5_000)
        .map(|n| item(&format!("part-{n:04}"), 1))
        .collect();
    let store = place.store_with(many.clone()).await?;
    let mut watch = store.watch(None)?;
    for new in &many {
        assert_eq!(watch.next().await?, Level::Current(level(&new.sku, 1, 0)));
    }
    let mut last = store.watch(Some("part-4999".to_owned()))?;
    assert_eq!(last.next().await?, Level::Current(level("part-4999", 1, 0)));
    let more: Vec<_> = many.iter().map(|old| item(&old.sku, 2)).collect();
    store.import(more.clone()).await?;
    // By then the other one has missed some.
    let (Level::Current(it) | Level::Changed(it)) = last.next().await?;
    assert_eq!(it, level("part-4999", 2, 0));
    for new in &more {
        assert_eq!(watch.next().await?, Level::Current(level(&new.sku, 2, 0)));
    }
    store
        .reserve("orders", reservation(1, "part-0042", 2))
        .await?;
    assert_eq!(
        watch.next().await?,
        Level::Changed(level("part-0042", 2, 2))
    );
    Ok(())
}

async fn watchers_never_see_an_older_level_and_end_at_the_last_one(
    place: TestStore,
) -> Result<(), Failure> {
    const ITEMS: u32 = 600;
    const RESERVATIONS: u32 = 1_500;
    let store = place
        .store_with((0..ITEMS).map(|n| item(&format!("part-{n:04}"), 1_000)))
        .await?;
    let mut watchers = JoinSet::new();
    for _ in 0..4 {
        let watch = store.watch(None)?;
        watchers.spawn(see_until_all_is_reserved(watch, RESERVATIONS));
    }
    for n in 0..RESERVATIONS {
        let sku = format!("part-{:04}", n * 7 % ITEMS);
        store
            .reserve("orders", reservation(n.into(), &sku, 1))
            .await?;
    }
    while let Some(seen) = watchers.join_next().await {
        for (sku, reserved) in seen?? {
            assert_eq!(
                store.item(&sku).await?.map(|item| item.reserved),
                Some(reserved)
            );
        }
    }
    Ok(())
}

async fn see_until_all_is_reserved(
    mut watch: Watch,
    all: u32,
) -> Result<HashMap<String, u32>, StoreError> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    while seen.values().sum::<u32>() < all {
        match watch.next().await? {
            Level::Current(now) => {
                let before = seen.insert(now.sku.clone(), now.reserved);
                assert!(
                    before.is_none_or(|before| before <= now.reserved),
                    "{} went back",
                    now.sku
                );
            }
            Level::Changed(now) => {
                let before = seen.insert(now.sku.clone(), now.reserved);
                assert_eq!(
                    before.map(|before| before + 1),
                    Some(now.reserved),
                    "{}: not the next one",
                    now.sku
                );
            }
        }
    }
    Ok(seen)
}

async fn names_of_any_length_and_items_in_the_order_of_their_bytes(
    place: TestStore,
) -> Result<(), Failure> {
    let skus = ["A", "B-1", "B1", "Z", "a", "b"];
    let store = place.store_with(skus.map(|sku| item(sku, 9))).await?;
    let mut watch = store.watch(None)?;
    for sku in skus {
        assert_eq!(watch.next().await?, Level::Current(level(sku, 9, 0)));
    }
    // Longer than a key of a database may be, and not to be shortened by compression.
    let long: String = (0..400).map(|_| Uuid::new_v4().to_string()).collect();
    let wanted = reservation(1, "A", 2);
    let first = store.reserve(&long, wanted.clone()).await?;
    assert_eq!(store.reserve(&long, wanted).await?, first);
    let other = store
        .reserve(&format!("{long}é"), reservation(1, "B1", 2))
        .await?;
    assert_eq!(other.sku, "B1");
    Ok(())
}
