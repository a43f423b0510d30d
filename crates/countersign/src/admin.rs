//! The port for probes and scrapers: plaintext, on an address of its own, with nothing on it that needs a secret.
//!
//! Never an RPC of the service, never a name of a caller, never a way to change anything. It is the one crate that
//! answers without TLS.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use mtls::{Crowd, Place};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, unconstrained};
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tracing::error;

/// Probes and scrapers are few. Beyond this a connection makes way, of the address that has most and there one that
/// sent nothing, so that none that is silent, or never reads, keeps a probe out.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to begin to speak, and to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Where the port is, as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// There is none.
    Off,
    /// It is here.
    At(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_e| "neither an IP address and port nor \"off\"".to_owned())
    }
}

/// What the port shows.
#[derive(Clone)]
pub struct Pages {
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    metrics: Arc<Registry>,
}

/// Whether new work is welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// It is not, for this reason.
    NotReady(&'static str),
}

impl Pages {
    /// `/readyz` says what `readiness` does, and `/metrics` shows what `metrics` holds, each when it is asked for.
    pub fn new(
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
        metrics: Registry,
    ) -> Self {
        Self {
            readiness: Arc::new(readiness),
            metrics: Arc::new(metrics),
        }
    }

    fn router(self, services: Routes) -> Router {
        let Self { readiness, metrics } = self;
        let readyz = move || async move {
            match readiness() {
                Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
                Readiness::NotReady(reason) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {reason}\n"),
                ),
            }
        };
        let metrics = move || async move {
            let mut page = String::new();
            // A string takes all that is written to it.
            prometheus_text::encode(&mut page, &metrics).ok();
            (
                [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
                page,
            )
        };
        services
            .into_axum_router()
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            // gRPC's own answer to an unknown path is 200 to whoever does not speak gRPC, as a probe of a wrong path.
            .fallback(|| async { (StatusCode::NOT_FOUND, "no such page\n") })
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// Serves `pages`, `/livez`, and `services` over HTTP/2 without TLS, until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    services: Routes,
    stop: impl Future<Output = ()>,
) {
    let service = TowerToHyperService::new(pages.router(services));
    let mut connections = JoinSet::new();
    let crowd = Crowd::new(MAX_CONNECTIONS, MAX_CONNECTIONS);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                let (place, evicted) = crowd.enter(address.ip());
                let service = service.clone();
                connections.spawn(async move { one(tcp, service, &place, evicted).await });
            }
            Err(fault) => {
                error!(reason = %fault, "cannot accept on the admin port; trying again");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// One connection until it ends or must make way. What it has asked for by then is answered first, as far as it reads.
async fn one(
    tcp: TcpStream,
    service: TowerToHyperService<Router>,
    place: &Place,
    evicted: oneshot::Receiver<()>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(16);
    let served = async {
        if !matches!(timeout(HEADER_TIMEOUT, tcp.readable()).await, Ok(Ok(()))) {
            return;
        }
        place.spoke();
        // How a probe's connection ends is of no interest.
        drop(builder.serve_connection(TokioIo::new(tcp), service).await);
    };
    tokio::select! {
        biased;
        () = served => {}
        // A connection that never stops to ask must not keep this from being looked at.
        Ok(()) = unconstrained(evicted) => {}
    }
}
