//! Background callers, and how their calls ended.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::Client;
use countersign::client::Connection;
use mtls::{Source, Target};
use proto::inventory::v1::{GetItemRequest, ImportItemsRequest};
use tokio::task::JoinSet;

use crate::world::{PATIENCE, Pki};

const SKU: &str = "PLENTY-1";

/// More than any of these calls takes, unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(10);

/// Callers at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    done: AtomicUsize,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

/// Makes the item that the callers read.
pub(crate) async fn prepare(pki: &Pki, address: SocketAddr) {
    let item = ImportItemsRequest {
        sku: SKU.to_owned(),
        name: "An item that never runs out".to_owned(),
        quantity: 1_000_000,
    };
    let mut catalog = pki.client("catalog", address);
    catalog
        .import_items(tokio_stream::iter([item]))
        .await
        .unwrap();
}

pub(crate) fn client(pki: &Pki, target: Target) -> Client {
    client::connect(Connection::new(
        target,
        Source::directory(pki.dir("auditor")),
    ))
    .unwrap()
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target::parse(&format!("https://localhost:{}", address.port())).unwrap()
}

impl Load {
    /// Four callers over one client, without a pause.
    pub(crate) fn start(client: &Client) -> Self {
        let mut load = Self {
            shared: Arc::default(),
            callers: JoinSet::new(),
        };
        for _ in 0..4 {
            let client = client.clone();
            load.caller(move || client.clone());
        }
        load
    }

    /// One more caller, who asks for a client before each call.
    pub(crate) fn caller(&mut self, client: impl Fn() -> Client + Send + 'static) {
        let shared = self.shared.clone();
        self.callers.spawn(async move {
            while !shared.stop.load(Ordering::Relaxed) {
                let request = GetItemRequest {
                    sku: SKU.to_owned(),
                };
                match client().get_item(request, Some(DEADLINE)).await {
                    Ok(_) => _ = shared.done.fetch_add(1, Ordering::Relaxed),
                    Err(error) => shared.failures.lock().unwrap().push(error.to_string()),
                }
            }
        });
    }

    pub(crate) fn done(&self) -> usize {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Waits until `calls` more were answered.
    pub(crate) async fn goes_on(&self, calls: usize) {
        let before = self.done();
        let served = async {
            while self.done() < before + calls {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let served = tokio::time::timeout(PATIENCE, served).await;
        let failures = self.shared.failures.lock().unwrap();
        assert!(served.is_ok(), "the callers are not served: {failures:?}");
    }

    /// Ends it; gives how many calls were answered, and what was said of those that were not.
    pub(crate) async fn stop(mut self) -> (usize, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        (self.done(), failures)
    }
}
