//! The database when it is not as it should be: refused at the start with what to do, or away, slow, full or restarted
//! while it is used. No acknowledgement is lost, and nothing needs a restart.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use countersign::admin::Readiness;
use server::store::{NewItem, NewReservation, OpenError, ReserveError, Store, StoreError};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

mod away;
#[path = "../support/proxy.rs"]
mod proxy;
mod refused;
mod shared;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

use proxy::Proxy;
use support::{Cluster, PATIENCE, Pki};

const UNAVAILABLE: ReserveError = ReserveError::Store(StoreError::Unavailable);

async fn connect(pki: &Pki, url: &str) -> Result<Store, OpenError> {
    Store::connect(url.parse()?, pki.trust("inventory")).await
}

/// A database, and a store in it.
struct Fixture {
    pki: Pki,
    cluster: Cluster,
    /// Its name.
    database: String,
    store: Store,
}

impl Fixture {
    /// With so many bolts; none where there is no PostgreSQL.
    async fn with(quantity: u32) -> Option<Self> {
        let pki = Pki::new();
        let cluster = Cluster::start(&pki)?;
        let database = cluster.create();
        let store = connect(&pki, &cluster.url(&database)).await.unwrap();
        store.import(bolts(quantity)).await.unwrap();
        Some(Self {
            pki,
            cluster,
            database,
            store,
        })
    }

    /// Another store, by way of a proxy.
    async fn behind_a_proxy(&self) -> (Proxy, Store) {
        let proxy = Proxy::start(self.cluster.port).await;
        let store = connect(&self.pki, &self.url_by(&proxy)).await.unwrap();
        (proxy, store)
    }

    fn url_by(&self, proxy: &Proxy) -> String {
        let (port, database) = (proxy.port, &self.database);
        format!("postgres://inventory@localhost:{port}/{database}")
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
