//! A database that is away, slow, cut off or full while it is used.

use std::time::Duration;

use countersign::admin::Readiness;
use server::store::{NewItem, StoreError};
use server::watch::Level;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::small_disk::SmallDisk;
use crate::support::{Cluster, PATIENCE, Pki};
use crate::{Fixture, UNAVAILABLE, becomes, bolt, bolts, connect, eventually, persist, reserved};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_before_its_database_is_ready_once_it_is_there() {
    let pki = Pki::new();
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    let url = cluster.url(&cluster.create());
    cluster.kill();
    let store = connect(&pki, &url).await.unwrap();
    assert_ne!(*store.readiness().borrow(), Readiness::Ready);
    let begun = Instant::now();
    assert_eq!(store.item("bolt").await, Err(StoreError::Unavailable));
    assert_eq!(store.reserve("orders", bolt(1)).await, Err(UNAVAILABLE));
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    cluster.run(&[]);
    becomes(&store, true).await;
    store.import(bolts(9)).await.unwrap();

    // And again, while it is used; a watch goes on.
    let mut seen = store.watch(None).unwrap();
    assert!(matches!(seen.next().await, Ok(Level::Current(_))));
    cluster.kill();
    becomes(&store, false).await;
    cluster.run(&[]);
    becomes(&store, true).await;
    store.reserve("orders", bolt(2)).await.unwrap();
    loop {
        let (Level::Current(now) | Level::Changed(now)) = seen.next().await.unwrap();
        if now.reserved == 1 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_cut_off_is_neither_acknowledged_nor_done_twice() {
    let Some(it) = Fixture::with(100_000).await else {
        return;
    };
    let Fixture {
        cluster,
        database,
        store,
        ..
    } = it;

    // In the middle: it waits for another transaction when its backend is terminated.
    let cut =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'inventory'";
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'inventory' AND wait_event_type = 'Lock'";
    let blocked = std::thread::scope(|scope| {
        let held = format!(
            "BEGIN; SELECT FROM inventory.meta FOR UPDATE;
             DO $$ BEGIN WHILE ({waits}) = 0 LOOP PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$;
             {cut}; COMMIT"
        );
        let (cluster, database) = (&cluster, &database);
        scope.spawn(move || cluster.sql(database, &held));
        eventually_blocking(|| {
            cluster.sql(database, "SELECT count(*) FROM pg_locks WHERE relation = 'inventory.meta'::regclass AND mode = 'RowShareLock'") != "0"
        });
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(store.reserve("orders", bolt(1))))
    });
    assert_eq!(blocked, Err(UNAVAILABLE));
    assert_eq!(reserved(&store).await, 0);
    assert_eq!(persist(&store, 1).await, Ok(99_999));

    // Anywhere: 16 callers retry, while all backends are terminated again and again.
    let (stop, stopped) = watch::channel(false);
    let mut callers = JoinSet::new();
    for caller in 1..=16_u128 {
        let (store, stopped) = (store.clone(), stopped.clone());
        callers.spawn(async move {
            let mut made = 0;
            while made < 8 || !*stopped.borrow() {
                persist(&store, caller * 1_000_000 + made).await.unwrap();
                made += 1;
            }
            made
        });
    }
    for _cut in 0..5 {
        cluster.sql(&database, cut);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    stop.send_replace(true);
    let made = 1 + callers.join_all().await.into_iter().sum::<u128>();
    assert_eq!(u128::from(reserved(&store).await), made);
    let kept = cluster.sql(
        &database,
        "SELECT count(*), sum(quantity) FROM inventory.reservations",
    );
    assert_eq!(kept, format!("{made}|{made}"));
}

fn eventually_blocking(mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_the_network_loses_is_given_at_the_retry() {
    let Some(it) = Fixture::with(10).await else {
        return;
    };
    let (proxy, store) = it.behind_a_proxy().await;

    // The commit is done, and its answer does not come.
    proxy.mute.send_replace(true);
    let lost = tokio::spawn({
        let store = store.clone();
        async move { store.reserve("orders", bolt(1)).await }
    });
    eventually("it is committed", || async {
        let made = "SELECT count(*) FROM inventory.reservations";
        it.cluster.sql(&it.database, made) == "1"
    })
    .await;
    proxy.cut.send_modify(|cuts| *cuts += 1);
    assert_eq!(lost.await.unwrap(), Err(UNAVAILABLE));
    proxy.mute.send_replace(false);
    assert_eq!(persist(&store, 1).await, Ok(9));
    assert_eq!(reserved(&store).await, 1);

    // Nothing comes, and nothing is cut: the wait has an end, and the connection another one's place.
    proxy.mute.send_replace(true);
    let begun = Instant::now();
    assert_eq!(store.reserve("orders", bolt(2)).await, Err(UNAVAILABLE));
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    becomes(&store, false).await;
    proxy.mute.send_replace(false);
    proxy.cut.send_modify(|cuts| *cuts += 1);
    assert_eq!(persist(&store, 2).await, Ok(8));
    assert_eq!(reserved(&store).await, 2);
    becomes(&store, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seconds_on_the_way_cost_two_seconds_and_nothing_else() {
    let Some(it) = Fixture::with(10).await else {
        return;
    };
    let (proxy, store) = it.behind_a_proxy().await;
    proxy.delay.send_replace(Duration::from_secs(1));
    let begun = Instant::now();
    assert_eq!(reserved(&store).await, 0);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(
        store
            .reserve("orders", bolt(1))
            .await
            .map(|made| made.available),
        Ok(9)
    );
    // A caller with less time gives up, and gets the first answer when it asks again.
    let short = timeout(Duration::from_millis(500), store.reserve("orders", bolt(2))).await;
    assert!(short.is_err());
    assert_eq!(persist(&store, 2).await, Ok(8));
    assert_eq!(*store.readiness().borrow(), Readiness::Ready);
    // Another server can start so far away.
    let other = connect(&it.pki, &it.url_by(&proxy)).await.unwrap();
    assert_eq!(reserved(&other).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_whole_and_takes_them_when_there_is_room() {
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let Some(small) = SmallDisk::mount(&cluster) else {
        return;
    };
    cluster.sql(
        "postgres",
        &format!(
            "CREATE TABLESPACE small LOCATION '{}'",
            small.path.display()
        ),
    );
    cluster.sql(
        "postgres",
        "CREATE DATABASE full_one OWNER inventory TABLESPACE small",
    );
    let store = connect(&pki, &cluster.url("full_one")).await.unwrap();
    store.import(bolts(10)).await.unwrap();
    let parts = |n: u32| -> Vec<_> {
        let names = (0..2_000).map(|i| format!("part-{n:03}-{i:04}"));
        let item = |sku: String| NewItem {
            name: sku.repeat(14),
            sku,
            quantity: 1,
        };
        names.map(item).collect()
    };
    let mut imported = 0;
    let refused = loop {
        match store.import(parts(imported)).await {
            Ok(_) => imported += 1,
            Err(error) => break error,
        }
        assert!(imported < 200, "it never gets full");
    };
    assert_eq!(refused, StoreError::Unavailable.into());
    // All or nothing, and reads go on.
    assert_eq!(
        store.item(&format!("part-{imported:03}-0000")).await,
        Ok(None)
    );
    assert_eq!(reserved(&store).await, 0);
    assert_eq!(*store.readiness().borrow(), Readiness::Ready);
    small.enlarge();
    store.import(parts(imported)).await.unwrap();
    assert_eq!(store.reserve("orders", bolt(1)).await.unwrap().available, 9);
}
