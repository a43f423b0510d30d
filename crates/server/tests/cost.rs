//! What a reservation costs in each kind of store: 64 callers for two seconds.
//! `cargo test -p server --test cost -- --nocapture` shows the figures.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::time::{Duration, Instant};

use server::store::{NewItem, NewReservation, Store};
use tokio::task::JoinSet;
use uuid::Uuid;

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use support::{Cluster, Pki};

const CALLERS: u32 = 64;
const TIME: Duration = Duration::from_secs(2);

async fn measure(kind: &str, store: Store) {
    let bolt = NewItem {
        sku: "bolt".to_owned(),
        name: "Bolt".to_owned(),
        quantity: 1_000_000,
    };
    store.import(vec![bolt]).await.unwrap();
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < TIME {
                let wanted = NewReservation {
                    id: Uuid::new_v4(),
                    sku: "bolt".to_owned(),
                    quantity: 1,
                };
                let asked = Instant::now();
                store.reserve("orders", wanted).await.unwrap();
                took.push(asked.elapsed());
            }
            took
        });
    }
    let mut took = callers.join_all().await.concat();
    let rate = f64::from(u32::try_from(took.len()).unwrap()) / begun.elapsed().as_secs_f64();
    took.sort();
    let (half, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let line = format!("{kind}: {rate:.0} reservations/s, p50 {half:.1?}, p99 {p99:.1?}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    let bolt = store.item("bolt").await.unwrap().unwrap();
    assert_eq!(usize::try_from(bolt.reserved).unwrap(), took.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_in_each_kind_of_store() {
    let pki = Pki::new();
    let file = pki.dir("cost.redb");
    measure("data file", Store::open(file).await.unwrap()).await;
    let Some(cluster) = Cluster::start(&pki) else {
        return;
    };
    let url = cluster.url(&cluster.create()).parse().unwrap();
    let store = Store::connect(url, pki.trust("inventory")).await.unwrap();
    measure("database", store).await;
}
