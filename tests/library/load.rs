//! Background callers, and how their calls ended.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::client::{self, Client, Connection, RpcError};
use mtls::{Source, Target};
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;
use tokio::task::JoinSet;

use crate::world::{PATIENCE, Pki};

/// More than any of these calls takes, unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(10);

/// Callers at work.
pub(crate) struct Load {
    shared: Arc<LoadState>,
    callers: JoinSet<()>,
}

#[derive(Default)]
struct LoadState {
    done: AtomicUsize,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

pub(crate) fn client(pki: &Pki, target: Target) -> Client {
    connect(Connection::new(
        target,
        Source::directory(pki.dir("auditor")),
    ))
}

pub(crate) fn connect(connection: Connection) -> Client {
    client::connect(connection, test_contract::FILE_DESCRIPTOR_SET).unwrap()
}

/// A call that may be repeated, with a deadline, and what was said when it failed.
pub(crate) async fn echo(client: &Client, text: &str, deadline: Duration) -> Result<(), RpcError> {
    let text = text.to_owned();
    let mut request = tonic::Request::new(EchoRequest { text });
    request.set_timeout(deadline);
    let answer = EchoServiceClient::new(client.channel()).echo(request).await;
    answer
        .map(drop)
        .map_err(|status| client.error("Echo", status))
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
                match echo(&client(), "hello", DEADLINE).await {
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
