//! The database when it is not as it should be: refused at the start with what to do, or away, slow, full or restarted
//! while it is used. No acknowledgement is lost, and nothing needs a restart.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use countersign::admin::Readiness;
use countersign::base::text::in_one_line;
use server::store::{Item, NewItem, NewReservation, OpenError, ReserveError, Store, StoreError};
use server::watch::Level;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/small_disk.rs"]
mod small_disk;
mod support;

use proxy::Proxy;
use small_disk::SmallDisk;
use support::{Cluster, PATIENCE, Pki};

const UNAVAILABLE: ReserveError = ReserveError::Store(StoreError::Unavailable);

async fn connect(pki: &Pki, url: &str) -> Result<Store, OpenError> {
    Store::connect(url.parse()?, pki.trust("inventory")).await
}

async fn refused(pki: &Pki, url: &str) -> String {
    match connect(pki, url).await {
        Ok(_) => panic!("{url}: was taken"),
        Err(error) => in_one_line(&error),
    }
}

fn bolts(quantity: u32) -> Vec<NewItem> {
    vec![NewItem {
        sku: "bolt".to_owned(),
        name: "Bolt".to_owned(),
        quantity,
    }]
}

fn bolt(id: u128) -> NewReservation {
    NewReservation {
        id: Uuid::from_u128(id),
        sku: "bolt".to_owned(),
        quantity: 1,
    }
}

/// Asks until there is an answer.
async fn reserved(store: &Store) -> u32 {
    loop {
        match store.item("bolt").await {
            Err(StoreError::Unavailable) => {}
            answer => return answer.unwrap().unwrap().reserved,
        }
    }
}

async fn becomes(store: &Store, ready: bool) {
    let mut readiness = store.readiness();
    let wanted = |now: &Readiness| (*now == Readiness::Ready) == ready;
    timeout(PATIENCE, readiness.wait_for(wanted))
        .await
        .unwrap()
        .unwrap();
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reserves as a client that retries does.
async fn persist(store: &Store, id: u128) -> Result<u32, ReserveError> {
    loop {
        match store.reserve("orders", bolt(id)).await {
            Err(UNAVAILABLE) => {}
            answer => return answer.map(|made| made.available),
        }
    }
}

#[tokio::test]
async fn a_url_that_asks_for_less_than_mutual_tls_is_refused() {
    for (url, why) in [
        (
            "postgres://inventory:secret@localhost/x",
            "it has a password",
        ),
        ("postgres://localhost/x", "it has no user"),
        ("postgres://inventory@/x", "it needs the name of a host"),
        (
            "postgres://inventory@%2Frun%2Fpostgresql/x",
            "it needs the name of a host",
        ),
        (
            "postgres://inventory@localhost/x?sslmode=disable",
            "it turns TLS off",
        ),
        (
            "postgres://inventory@localhost/x?colour=red",
            "unknown option `colour`",
        ),
    ] {
        let error = in_one_line(&url.parse::<server::store::Database>().unwrap_err());
        assert!(error.contains(why), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_trusted_is_refused_with_the_reason() {
    let pki = Pki::new();
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    let url = cluster.url(&cluster.create());
    connect(&pki, &url).await.unwrap();

    let others = Pki::new();
    let error = refused(&others, &url).await;
    assert!(
        error.contains("TLS handshake") && error.contains("UnknownIssuer"),
        "{error}"
    );

    // It does not know us: another authority, another name, a name without a role, a certificate for servers, a revoked
    // one.
    let both = [&others.root, &pki.root].map(|root| root.certificate_pem());
    others.put("inventory", "ca.crt", &both.concat());
    let error = refused(&others, &url).await;
    assert!(error.contains("fatal alert"), "{error}");
    let ours = pki.issue("inventory");
    pki.issue("stranger");
    let stranger = Store::connect(url.parse().unwrap(), pki.trust("stranger")).await;
    let error = in_one_line(&stranger.unwrap_err());
    assert!(
        error.contains("certificate authentication failed for user \"inventory\""),
        "{error}"
    );
    let nobody = url.replace("inventory@", "nobody@");
    let error = refused(&pki, &nobody).await;
    assert!(
        error.contains("certificate authentication failed for user \"nobody\""),
        "{error}"
    );
    let mut server = Pki::spec("inventory");
    server.purposes = vec![cli::pki::Purpose::Server];
    pki.install("inventory", &server);
    let error = refused(&pki, &url).await;
    assert!(
        error.contains("our certificate would be refused"),
        "{error}"
    );
    pki.put("inventory", "tls.key", &ours.key_pem);
    pki.put("inventory", "tls.crt", &ours.chain_pem);
    cluster.put("root.crl", &pki.crl(2, &[&ours]));
    cluster.reload();
    let error = refused(&pki, &url).await;
    assert!(error.contains("CertificateRevoked"), "{error}");
    pki.issue("inventory");
    connect(&pki, &url).await.unwrap();

    // We do not know it: another name, a revoked certificate, or no TLS at all.
    let elsewhere = pki.database("elsewhere");
    for (leaf, revoked, why) in [
        (&elsewhere, false, "NotValidForName"),
        (&pki.database("localhost"), true, "Revoked"),
    ] {
        cluster.install(leaf);
        cluster.reload();
        if revoked {
            pki.put("inventory", "crl.pem", &pki.crl(1, &[leaf]));
        }
        let error = refused(&pki, &url).await;
        assert!(
            error.contains("TLS handshake") && error.contains(why),
            "{error}"
        );
    }
    cluster.kill();
    cluster.run(&["ssl=off"]);
    let error = refused(&pki, &url).await;
    assert!(error.contains("server does not support TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_fit_is_refused_with_what_is_missing() {
    let pki = Pki::new();
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    let missing = refused(&pki, &cluster.url("nowhere")).await;
    assert!(
        missing.contains("database \"nowhere\" does not exist"),
        "{missing}"
    );

    // The role may not make the schema; its owner may, and then grants what is needed.
    cluster.sql("postgres", "CREATE DATABASE strict");
    let url = cluster.url("strict");
    let error = refused(&pki, &url).await;
    assert!(error.contains("cannot bring it to schema 1"), "{error}");
    assert!(
        error.contains("permission denied for database strict"),
        "{error}"
    );
    cluster.sql("strict", include_str!("../migrations/0001_inventory.sql"));
    for (lacking, grant) in [
        (
            "USAGE ON SCHEMA inventory: grant it",
            "USAGE ON SCHEMA inventory",
        ),
        (
            "SELECT ON inventory.items, SELECT ON inventory.meta",
            "SELECT, UPDATE ON inventory.meta",
        ),
        (
            "INSERT ON inventory.items",
            "SELECT, INSERT, UPDATE ON inventory.items",
        ),
        (
            "INSERT ON inventory.reservations",
            "SELECT, INSERT ON inventory.reservations",
        ),
        (
            "DELETE ON inventory.changes",
            "SELECT, INSERT, DELETE ON inventory.changes",
        ),
    ] {
        let error = refused(&pki, &url).await;
        assert!(error.contains("the role inventory lacks"), "{error}");
        assert!(error.contains(lacking), "{error}");
        cluster.sql("strict", &format!("GRANT {grant} TO inventory"));
    }
    let store = connect(&pki, &url).await.unwrap();
    store.import(bolts(3)).await.unwrap();
    store.reserve("orders", bolt(1)).await.unwrap();

    // A newer program was here.
    cluster.sql("strict", "UPDATE inventory.meta SET schema = 2");
    let error = refused(&pki, &url).await;
    assert!(
        error.contains("it has schema 2 and this program knows schema 1"),
        "{error}"
    );

    cluster.sql(
        "postgres",
        "CREATE DATABASE latin OWNER inventory ENCODING LATIN1 TEMPLATE template0",
    );
    let error = refused(&pki, &cluster.url("latin")).await;
    assert!(error.contains("its encoding is LATIN1"), "{error}");

    cluster.kill();
    cluster.run(&["fsync=off"]);
    let error = refused(&pki, &cluster.url("strict")).await;
    assert!(error.contains("fsync off"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_together_make_the_schema_once_and_write_durably() {
    let pki = Arc::new(Pki::new());
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let database = cluster.create();
    cluster.sql(
        &database,
        &format!("ALTER DATABASE {database} SET synchronous_commit = off"),
    );
    cluster.sql(
        &database,
        &format!("ALTER DATABASE {database} SET default_transaction_isolation = serializable"),
    );
    let mut starting = JoinSet::new();
    for _ in 0..6 {
        let (pki, url) = (pki.clone(), cluster.url(&database));
        starting.spawn(async move { connect(&pki, &url).await.unwrap() });
    }
    let stores = starting.join_all().await;
    assert_eq!(
        cluster.sql(
            &database,
            "SELECT count(*), max(schema) FROM inventory.meta"
        ),
        "1|1"
    );
    stores[0].import(bolts(100)).await.unwrap();
    let mut reserving = JoinSet::new();
    for (n, store) in (0..60).zip(stores.iter().cycle()) {
        let store = store.clone();
        reserving.spawn(async move { store.reserve("orders", bolt(n)).await.unwrap() });
    }
    reserving.join_all().await;
    assert_eq!(reserved(&stores[1]).await, 60);
    // What every session of ours has, whatever the database's default is.
    cluster.sql(
        &database,
        "CREATE FUNCTION inventory.setting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.name := current_setting('synchronous_commit') || ' ' || current_setting('transaction_isolation');
            RETURN NEW; END $$;
         CREATE TRIGGER setting BEFORE INSERT ON inventory.changes FOR EACH ROW EXECUTE FUNCTION inventory.setting()",
    );
    stores[2].reserve("orders", bolt(1000)).await.unwrap();
    let settings = "SELECT name FROM inventory.changes ORDER BY revision DESC LIMIT 1";
    assert_eq!(cluster.sql(&database, settings), "on read committed");
}

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
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let database = cluster.create();
    let store = connect(&pki, &cluster.url(&database)).await.unwrap();
    store.import(bolts(100_000)).await.unwrap();

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
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let database = cluster.create();
    let proxy = Proxy::start(cluster.port).await;
    let url = format!("postgres://inventory@localhost:{}/{database}", proxy.port);
    let store = connect(&pki, &url).await.unwrap();
    store.import(bolts(10)).await.unwrap();

    // The commit is done, and its answer does not come.
    proxy.mute.send_replace(true);
    let lost = tokio::spawn({
        let store = store.clone();
        async move { store.reserve("orders", bolt(1)).await }
    });
    eventually("it is committed", || async {
        cluster.sql(&database, "SELECT count(*) FROM inventory.reservations") == "1"
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
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let proxy = Proxy::start(cluster.port).await;
    let url = format!(
        "postgres://inventory@localhost:{}/{}",
        proxy.port,
        cluster.create()
    );
    let store = connect(&pki, &url).await.unwrap();
    store.import(bolts(10)).await.unwrap();
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
    let other = connect(&pki, &url).await.unwrap();
    assert_eq!(reserved(&other).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_both_sides_rotate_without_a_failed_call_and_a_revoked_one_ends_it() {
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let database = cluster.create();
    let store = connect(&pki, &cluster.url(&database)).await.unwrap();
    store.import(bolts(100_000)).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let calling = tokio::spawn({
        let store = store.clone();
        async move {
            let mut calls = 0;
            while !*stopped.borrow() {
                calls += 1;
                store.reserve("orders", bolt(calls)).await.unwrap();
                store.item("bolt").await.unwrap();
            }
            calls
        }
    });
    let serials = || {
        let of = "SELECT count(*), count(DISTINCT client_serial), max(client_serial) FROM pg_stat_ssl JOIN pg_stat_activity
            USING (pid) WHERE usename = 'inventory' AND version = 'TLSv1.3'";
        cluster.sql(&database, of)
    };
    let mut leaf = pki.database("localhost");
    for _ in 0..3 {
        let before = serials();
        assert!(before.starts_with("2|1|"), "{before}");
        cluster.install(&leaf);
        cluster.reload();
        pki.issue("inventory");
        eventually("both connections have the new certificate", || async {
            let now = serials();
            now.starts_with("2|1|") && now != before
        })
        .await;
        leaf = pki.database("localhost");
    }
    stop.send_replace(true);
    let calls = calling.await.unwrap();
    assert!(calls > 50, "{calls}");

    // The certificate that the database has now is revoked: no call goes there any more, until it has another.
    cluster.install(&leaf);
    cluster.reload();
    pki.issue("inventory");
    let before = serials();
    eventually("both connections see the last rotation", || async {
        let now = serials();
        now.starts_with("2|1|") && now != before
    })
    .await;
    pki.put("inventory", "crl.pem", &pki.crl(1, &[&leaf]));
    becomes(&store, false).await;
    assert_eq!(store.item("bolt").await, Err(StoreError::Unavailable));
    eventually("no connection is left", || async {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'inventory'";
        cluster.sql(&database, open) == "0"
    })
    .await;
    cluster.install(&pki.database("localhost"));
    cluster.reload();
    becomes(&store, true).await;
    assert_eq!(u128::from(reserved(&store).await), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_of_another_server_see_each_change_also_without_a_notification() {
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let database = cluster.create();
    let url = cluster.url(&database);
    let (one, two) = (
        connect(&pki, &url).await.unwrap(),
        connect(&pki, &url).await.unwrap(),
    );
    one.import(bolts(10)).await.unwrap();
    let mut watch = two.watch(None).unwrap();
    let level = |reserved| Item {
        sku: "bolt".to_owned(),
        name: "Bolt".to_owned(),
        quantity: 10,
        reserved,
    };
    assert_eq!(watch.next().await, Ok(Level::Current(level(0))));
    for n in 1..=3_u32 {
        one.reserve("orders", bolt(n.into())).await.unwrap();
    }
    for n in 1..=3 {
        assert_eq!(watch.next().await, Ok(Level::Changed(level(n))));
    }
    // Without notifications they are found by looking.
    let silent = cluster.sql(
        &database,
        "SELECT pg_get_functiondef('inventory.changed'::regproc)",
    );
    cluster.sql(&database, &silent.replace("NOTIFY inventory;", "NULL;"));
    one.reserve("orders", bolt(4)).await.unwrap();
    one.reserve("orders", bolt(5)).await.unwrap();
    assert_eq!(watch.next().await, Ok(Level::Changed(level(4))));
    assert_eq!(watch.next().await, Ok(Level::Changed(level(5))));
    // Changes that are no longer there are made up for by the level of now.
    cluster.sql(&database, "UPDATE inventory.items SET reserved = 7; UPDATE inventory.meta SET revision = revision + 2");
    assert_eq!(watch.next().await, Ok(Level::Current(level(7))));
    // So is what a database that was restored from a copy has forgotten.
    cluster.sql(&database, "UPDATE inventory.items SET reserved = 6; UPDATE inventory.meta SET revision = revision - 5");
    assert_eq!(watch.next().await, Ok(Level::Current(level(6))));
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
