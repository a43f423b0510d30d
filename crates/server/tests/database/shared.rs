//! Several servers of one database, and its certificates.

use std::sync::Arc;

use server::store::{Item, StoreError};
use server::watch::Level;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Cluster, Pki};
use crate::{Fixture, becomes, bolt, bolts, connect, eventually, reserved};

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
async fn certificates_of_both_sides_rotate_without_a_failed_call_and_a_revoked_one_ends_it() {
    let Some(Fixture {
        pki,
        cluster,
        database,
        store,
    }) = Fixture::with(100_000).await
    else {
        return;
    };
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
    let Some(Fixture {
        pki,
        cluster,
        database,
        store: one,
    }) = Fixture::with(10).await
    else {
        return;
    };
    let two = connect(&pki, &cluster.url(&database)).await.unwrap();
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
