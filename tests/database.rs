//! Several servers and one database, as processes: what is promised when one of them, or the database, dies in the middle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::scrape::{Scrape, get, health};
use harness::world::{Server, channel, command, eventually, eventually_async, run};
use mtls::Channel;
use proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use proto::inventory::v1::{
    GetItemRequest, ImportItemsRequest, ReserveStockRequest, WatchStockRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use uuid::Uuid;

use crate::documented::table;

#[path = "../crates/server/tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests of the store use the rest")]
mod support;

use support::{Cluster, Pki};

const ITEMS: usize = 100;
const UNITS: u32 = 8;
const CALLERS: usize = 16;
const SERVICE: &str = "inventory.v1.InventoryService";

fn start(pki: &Pki, url: &str) -> Server {
    let mut program = command("server");
    program
        .env("APP_TLS_DIR", pki.dir("inventory"))
        .env("APP_DATA_FILE", url);
    Server::spawn(program, &[])
}

fn client(pki: &Pki, name: &str, server: SocketAddr) -> InventoryServiceClient<Channel> {
    InventoryServiceClient::new(channel(pki.trust(name), server))
}

fn sku(item: usize) -> String {
    format!("part-{item:03}")
}

async fn import(pki: &Pki, server: SocketAddr) {
    let items: Vec<_> = (0..ITEMS)
        .map(|item| ImportItemsRequest {
            sku: sku(item),
            name: "Part".to_owned(),
            quantity: UNITS,
        })
        .collect();
    let items = tokio_stream::iter(items);
    client(pki, "catalog", server)
        .import_items(items)
        .await
        .unwrap();
}

/// Reserves one unit, by the next server after each failure, until there is an answer; whether it was made.
async fn reserve(
    servers: &mut [InventoryServiceClient<Channel>],
    at: &mut usize,
    item: usize,
) -> bool {
    let wanted = ReserveStockRequest {
        reservation_id: Uuid::new_v4().to_string(),
        sku: sku(item),
        quantity: 1,
    };
    loop {
        let mut request = Request::new(wanted.clone());
        request.set_timeout(Duration::from_secs(3));
        let count = servers.len();
        match servers[*at % count].reserve_stock(request).await {
            Ok(answer) => {
                let made = answer.into_inner().reservation.unwrap();
                assert_eq!(made.reservation_id, wanted.reservation_id);
                return true;
            }
            Err(status) if status.code() == Code::FailedPrecondition => return false,
            Err(status) => {
                let again = [Code::Unavailable, Code::DeadlineExceeded];
                assert!(again.contains(&status.code()), "{status:?}");
                *at += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_units_are_sold_once_while_a_server_is_killed_and_the_database_restarts() {
    let pki = Arc::new(Pki::new());
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    for name in ["orders", "catalog"] {
        pki.issue(name);
    }
    let database = cluster.create();
    let url = cluster.url(&database);
    let servers: Vec<_> = (0..3).map(|_| start(&pki, &url)).collect();
    import(&pki, servers[0].address).await;

    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let made = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (pki, addresses, made) = (pki.clone(), addresses.clone(), made.clone());
        callers.spawn(async move {
            let connect = |address: &SocketAddr| client(&pki, "orders", *address);
            let mut servers: Vec<_> = addresses.iter().map(connect).collect();
            let mut at = caller;
            let mut sold = HashMap::new();
            for item in (0..ITEMS).cycle().skip(caller * 7).take(ITEMS) {
                while reserve(&mut servers, &mut at, item).await {
                    *sold.entry(item).or_insert(0) += 1;
                    made.fetch_add(1, Ordering::Relaxed);
                }
            }
            sold
        });
    }
    let all = ITEMS * usize::try_from(UNITS).unwrap();
    let until = async |share: usize| {
        eventually_async("so many are sold", async || {
            (made.load(Ordering::Relaxed) > share).then_some(())
        })
        .await;
    };
    until(all / 4).await;
    servers[0].signal("KILL");
    until(all / 2).await;
    cluster.kill();
    let before = made.load(Ordering::Relaxed);
    assert!(before < all, "the database was to die in the middle");
    cluster.run(&[]);

    let mut sold: HashMap<usize, u32> = HashMap::new();
    for one in callers.join_all().await {
        for (item, units) in one {
            *sold.entry(item).or_default() += units;
        }
    }
    assert!(made.load(Ordering::Relaxed) > before);
    let mut survivor = client(&pki, "orders", addresses[2]);
    for item in 0..ITEMS {
        assert_eq!(sold.get(&item), Some(&UNITS), "{}", sku(item));
        let found = survivor.get_item(GetItemRequest { sku: sku(item) }).await;
        let found = found.unwrap().into_inner().item.unwrap();
        assert_eq!((found.reserved, found.available), (UNITS, 0));
    }
    let kept = cluster.sql(
        &database,
        "SELECT count(*), count(DISTINCT id), sum(quantity) FROM inventory.reservations",
    );
    assert_eq!(kept, format!("{all}|{all}|{all}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_whether_the_database_is_there_and_a_watch_outlives_it() {
    let pki = Pki::new();
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    for name in ["orders", "catalog"] {
        pki.issue(name);
    }
    let url = cluster.url(&cluster.create());
    let server = start(&pki, &url);
    import(&pki, server.address).await;
    let ready = || get(server.admin, "/readyz");
    assert_eq!(ready().1, "ready\n");
    let mut families: Vec<_> = table("metrics")
        .into_iter()
        .chain(table("database metrics"))
        .filter(|row| row[1].contains('S'))
        .map(|row| row[0].clone())
        .filter(|name| !name.starts_with("trace_"))
        .collect();
    families.sort();
    let scraped: Vec<_> = Scrape::of(server.admin).families().into_iter().collect();
    let scraped: Vec<_> = scraped
        .into_iter()
        .filter(|name| !name.starts_with("trace_"))
        .collect();
    assert_eq!(scraped, families);
    let mut orders = client(&pki, "orders", server.address);
    let watched = WatchStockRequest { sku: sku(0) };
    let mut watch = orders.watch_stock(watched).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();

    cluster.kill();
    eventually("it is not ready", || {
        (ready().1 == "not ready: the database is away\n").then_some(())
    });
    for name in ["", "readiness", SERVICE] {
        eventually_async("it is not serving", async || {
            let status = health(server.admin, name).await.unwrap();
            (status == ServingStatus::NotServing).then_some(())
        })
        .await;
    }
    assert_eq!(
        health(server.admin, "liveness").await.unwrap(),
        ServingStatus::Serving
    );
    let refused = orders
        .get_item(GetItemRequest { sku: sku(0) })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(Scrape::of(server.admin).sum("store_ready", &[]), 0.0);

    // A server that begins now says the same, and both are there again by themselves.
    let second = start(&pki, &url);
    assert_eq!(
        get(second.admin, "/readyz").1,
        "not ready: the database is away\n"
    );
    cluster.run(&[]);
    for admin in [server.admin, second.admin] {
        eventually("it is ready again", || {
            (get(admin, "/readyz").1 == "ready\n").then_some(())
        });
    }
    assert_eq!(Scrape::of(server.admin).sum("store_ready", &[]), 1.0);
    let mut other = [client(&pki, "orders", second.address)];
    assert!(reserve(&mut other, &mut 0, 0).await);
    loop {
        let level = watch.message().await.unwrap().unwrap().item.unwrap();
        if level.reserved == 1 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_ends_the_start_and_the_check_with_one_line() {
    let pki = Pki::new();
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let url = cluster.url(&cluster.create());
    let dir = pki.dir("inventory");
    let dir = dir.to_str().unwrap();
    let server = |data: &str, command: &[&str]| {
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "off"];
        let args = ["--data", data, "--tls-dir", dir];
        let ended = run("server", ports.iter().chain(&args).chain(command));
        let said = String::from_utf8(ended.stderr).unwrap();
        (
            ended.status.code(),
            said.lines().last().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(server(&url, &["check"]).0, Some(0));
    let secret = url.replace("inventory@", "inventory:hunter2@");
    let nowhere = cluster.url("nowhere");
    for (data, why) in [(&secret, "it has a password"), (&nowhere, "does not exist")] {
        for command in [&["check"][..], &[]] {
            let (code, said) = server(data, command);
            assert_eq!(code, Some(64), "{said}");
            assert!(said.starts_with("error: ") && said.contains(why), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
