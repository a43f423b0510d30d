//! The store against a real file: what it promises after a crash, under contention, to watchers, and about bad files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use server::store::{
    ImportError, Imported, Item, NewItem, NewReservation, OpenError, ReserveError, Store,
    StoreError,
};
use server::watch::{Level, Watch};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file_at_once_and_is_answered_again_from_there()
-> Result<(), Failure> {
    let dir = TempDir::new()?;
    let live = dir.path().join("live.redb");
    let store = Store::open(&live).await?;
    store.import(vec![item("bolt", 100)]).await?;
    for n in 1..=5 {
        let wanted = reservation(n.into(), "bolt", n);
        let first = store.reserve("orders", wanted.clone()).await?;

        // The bytes that a kill would leave behind.
        let left = dir.path().join(format!("left-{n}.redb"));
        fs::copy(&live, &left)?;
        let restarted = Store::open(&left).await?;
        assert_eq!(restarted.item("bolt").await?, store.item("bolt").await?);
        assert_eq!(restarted.reserve("orders", wanted).await?, first);
        assert_eq!(
            restarted.item("bolt").await?,
            store.item("bolt").await?,
            "the retry took units again"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_last_handle_closes_the_file() -> Result<(), Failure> {
    let dir = TempDir::new()?;
    let file = dir.path().join("deep/er/inventory.redb");
    let store = Store::open(&file).await?;
    let clone = store.clone();
    drop(store);
    assert!(matches!(
        Store::open(&file).await,
        Err(OpenError::Locked { .. })
    ));
    drop(clone);
    Store::open(&file).await?;
    Ok(())
}

#[tokio::test]
async fn an_identifier_is_one_reservation_of_one_caller() -> Result<(), Failure> {
    let (_dir, store) = store_with([item("bolt", 10), item("nut", 10)]).await?;
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

#[tokio::test]
async fn a_refused_reservation_leaves_nothing_and_is_judged_anew() -> Result<(), Failure> {
    let (_dir, store) = store_with([item("bolt", 3)]).await?;
    let too_many = reservation(1, "bolt", 4);
    let refused = Err(ReserveError::InsufficientStock { available: 3 });
    assert_eq!(store.reserve("orders", too_many.clone()).await, refused);
    let unknown = store.reserve("orders", reservation(2, "nut", 1)).await;
    assert_eq!(unknown, Err(ReserveError::SkuUnknown));

    store.import(vec![item("bolt", 4)]).await?;
    assert_eq!(store.reserve("orders", too_many).await?.available, 0);
    Ok(())
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_keeps_reservations() -> Result<(), Failure> {
    let (_dir, store) = store_with([item("bolt", 10), item("nut", 10)]).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_reservations_never_promise_more_than_there_is() -> Result<(), Failure> {
    let (_dir, store) = store_with([item("bolt", 500), item("nut", 300)]).await?;
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

#[tokio::test]
async fn writes_that_do_not_fit_the_queue_are_refused_and_the_others_are_kept()
-> Result<(), Failure> {
    let (_dir, store) = store_with([item("bolt", 1_000_000)]).await?;
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

#[tokio::test]
async fn a_watcher_gets_the_levels_of_now_and_then_each_change() -> Result<(), Failure> {
    let (_dir, store) = store_with([item("bolt", 10), item("nut", 20)]).await?;
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

#[tokio::test]
async fn a_watcher_that_lags_gets_the_levels_of_now_again() -> Result<(), Failure> {
    let many: Vec<_> = (0..5_000)
        .map(|n| item(&format!("part-{n:04}"), 1))
        .collect();
    let (_dir, store) = store_with(many.clone()).await?;
    let mut watch = store.watch(None)?;
    for new in &many {
        assert_eq!(watch.next().await?, Level::Current(level(&new.sku, 1, 0)));
    }
    let more: Vec<_> = many.iter().map(|old| item(&old.sku, 2)).collect();
    store.import(more.clone()).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn watchers_never_see_an_older_level_and_end_at_the_last_one() -> Result<(), Failure> {
    const ITEMS: u32 = 600;
    const RESERVATIONS: u32 = 3_000;
    let (_dir, store) =
        store_with((0..ITEMS).map(|n| item(&format!("part-{n:04}"), 1_000))).await?;
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

#[tokio::test]
async fn a_file_that_cannot_be_trusted_is_refused_by_name_with_what_to_do() -> Result<(), Failure> {
    let dir = TempDir::new()?;
    let sound = dir.path().join("sound.redb");
    drop(Store::open(&sound).await?);
    let sound = fs::read(&sound)?;

    let text = write(dir.path(), "text.redb", b"sku,name,quantity\nbolt,Bolt,1\n")?;
    let short = write(dir.path(), "short.redb", &sound[..sound.len() / 2])?;
    let empty = write(dir.path(), "empty.redb", b"")?;
    let stub = write(dir.path(), "stub.redb", &sound[..100])?;
    let zeros = write(dir.path(), "zeros.redb", &vec![0; sound.len()])?;
    let newer = write(dir.path(), "newer.redb", &sound)?;
    set_schema(&newer, 2)?;
    let foreign = dir.path().join("foreign.redb");
    write_foreign(&foreign)?;
    let below_a_file = text.join("inventory.redb");
    let directory = dir.path().join("directory.redb");
    fs::create_dir(&directory)?;
    let locked = dir.path().join("locked.redb");
    let _other = Store::open(&locked).await?;

    let cases = [
        (
            "text in place of data",
            &text,
            "is damaged or not a data file",
        ),
        (
            "the first half of a file",
            &short,
            "is damaged or not a data file",
        ),
        ("nothing", &empty, "remove it to start with nothing"),
        ("part of a header", &stub, "is damaged or not a data file"),
        ("zeros", &zeros, "is damaged or not a data file"),
        (
            "a schema of a later version",
            &newer,
            "run the version that wrote it",
        ),
        (
            "a sound file of another program",
            &foreign,
            "belongs to another program",
        ),
        ("a directory that is a file", &below_a_file, "cannot create"),
        ("a file that is a directory", &directory, "check its owner"),
        (
            "a file that another server has open",
            &locked,
            "stop the other server",
        ),
    ];
    for (name, path, advice) in cases {
        let Err(refused) = Store::open(path).await else {
            return Err(format!("{name}: was opened").into());
        };
        let refused = refused.to_string();
        assert!(refused.contains(advice), "{name}: {refused}");
        let named = path.file_name().ok_or("no name")?.to_string_lossy();
        let named = if name == "a directory that is a file" {
            "text.redb".into()
        } else {
            named
        };
        assert!(refused.contains(&*named), "{name}: {refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_file_and_its_directory_are_its_owners_alone() -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new()?;
    let file = dir.path().join("made/for/it/inventory.redb");
    Store::check(&file)?;
    assert!(!dir.path().join("made").exists());
    let store = Store::open(&file).await?;
    Store::check(&file)?;
    let mode = |path: &Path| fs::metadata(path).map(|it| it.permissions().mode() & 0o777);
    assert_eq!(mode(&file)?, 0o600);
    for made in ["made", "made/for", "made/for/it"] {
        assert_eq!(mode(&dir.path().join(made))?, 0o700, "{made}");
    }
    let beside: Vec<_> = fs::read_dir(dir.path().join("made/for/it"))?.collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    drop(store);
    // What a start that was cut short left behind is no obstacle, and no data.
    fs::rename(&file, dir.path().join("made/for/it/inventory.redb.new"))?;
    drop(Store::open(&file).await?);
    Ok(())
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_file_has_lost_its_name() -> Result<(), Failure> {
    let removed = |file: &Path| fs::remove_file(file);
    let moved = |file: &Path| fs::rename(file, file.with_extension("old"));
    let replaced = |file: &Path| {
        fs::copy(file, file.with_extension("copy"))?;
        fs::rename(file.with_extension("copy"), file)
    };
    type Loss = fn(&Path) -> std::io::Result<()>;
    let losses: [(&str, Loss); 3] = [
        ("removed", removed),
        ("moved", moved),
        ("replaced", replaced),
    ];
    for (name, lose) in losses {
        let dir = TempDir::new()?;
        let file = dir.path().join("inventory.redb");
        let store = Store::open(&file).await?;
        store.import(vec![item("bolt", 10)]).await?;
        lose(&file)?;
        let refused = store.reserve("orders", reservation(1, "bolt", 1)).await;
        assert_eq!(refused, Err(StoreError::Failed.into()), "{name}");
        store.failed().await;
        let refused = store.import(vec![item("nut", 10)]).await;
        assert_eq!(refused, Err(StoreError::Failed.into()), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_is_found_or_does_no_harm() -> Result<(), Failure> {
    let dir = TempDir::new()?;
    let file = dir.path().join("sound.redb");
    let store = Store::open(&file).await?;
    store
        .import((0..50).map(|n| item(&format!("part-{n}"), 10)).collect())
        .await?;
    store.reserve("orders", reservation(1, "part-7", 3)).await?;
    drop(store);
    let sound = fs::read(&file)?;

    let flipped = dir.path().join("flipped.redb");
    for at in (0..sound.len()).step_by(509) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&flipped, &bytes)?;
        match Store::open(&flipped).await {
            Ok(store) => {
                assert_eq!(
                    store.item("part-7").await?,
                    Some(level("part-7", 10, 3)),
                    "byte {at}"
                );
            }
            Err(
                OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Schema { .. },
            ) => {}
            Err(other) => return Err(format!("byte {at}: {other}").into()),
        }
    }
    Ok(())
}

async fn store_with(items: impl IntoIterator<Item = NewItem>) -> Result<(TempDir, Store), Failure> {
    let dir = TempDir::new()?;
    let store = Store::open(dir.path().join("inventory.redb")).await?;
    store.import(items.into_iter().collect()).await?;
    Ok((dir, store))
}

fn item(sku: &str, quantity: u32) -> NewItem {
    NewItem {
        sku: sku.to_owned(),
        name: format!("One {sku}"),
        quantity,
    }
}

fn level(sku: &str, quantity: u32, reserved: u32) -> Item {
    let NewItem {
        sku,
        name,
        quantity,
    } = item(sku, quantity);
    Item {
        sku,
        name,
        quantity,
        reserved,
    }
}

fn reservation(id: u128, sku: &str, quantity: u32) -> NewReservation {
    NewReservation {
        id: Uuid::from_u128(id),
        sku: sku.to_owned(),
        quantity,
    }
}

fn write(dir: &Path, name: &str, content: &[u8]) -> Result<std::path::PathBuf, Failure> {
    let path = dir.join(name);
    fs::write(&path, content)?;
    Ok(path)
}

fn set_schema(path: &Path, schema: u64) -> Result<(), Failure> {
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let transaction = redb::Database::open(path)?;
    let transaction = transaction.begin_write()?;
    transaction.open_table(meta)?.insert("schema", schema)?;
    Ok(transaction.commit()?)
}

fn write_foreign(path: &Path) -> Result<(), Failure> {
    let transaction = redb::Database::create(path)?.begin_write()?;
    transaction
        .open_table(redb::TableDefinition::<u64, u64>::new("blocks"))?
        .insert(1, 1)?;
    Ok(transaction.commit()?)
}
