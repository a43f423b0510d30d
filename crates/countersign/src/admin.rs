//! The admin port for probes and metrics: plaintext, on its own address.
//!
//! It serves no RPC of the service, names no caller and changes nothing. It is the only part without TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, unconstrained};
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tracing::error;

use crate::events;

/// The limit of connections. Beyond it one is closed, of the address that has the most, first those that sent nothing,
/// so that a silent client does not keep a probe out.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to begin to speak, and to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How long a probe waits for its whole answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// As much of an answer as a probe reads.
const MAX_PROBE_ANSWER: u64 = 4096;

/// Where the port is, as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// Off.
    Off,
    /// The address.
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
            // gRPC's own answer to an unknown path is 200 to a client that does not speak gRPC, such as a probe of a wrong path.
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
                error!(reason = %fault, "{}", events::ADMIN_ACCEPT_FAILED);
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Why a probe did not find its program ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// There is no port to ask.
    #[error(
        "no admin port is set: set --admin-listen or APP_ADMIN_ADDR to that of the running program"
    )]
    Off,
    /// No answer.
    #[error("cannot reach the admin port {address}: {source}")]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// The program answers, and is not ready.
    #[error("{address} answers: {answer}")]
    Refused {
        /// Who was asked.
        address: SocketAddr,
        /// What it says.
        answer: String,
    },
}

/// Asks the program whose admin port is at `address` whether it is ready, as a health check of a container does, and
/// gives its answer. An unspecified address, as in `0.0.0.0:9464`, means this machine.
///
/// # Errors
/// [`NotReady`]
pub async fn probe(address: Address) -> Result<String, NotReady> {
    let Address::At(mut address) = address else {
        return Err(NotReady::Off);
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let asked = timeout(PROBE_TIMEOUT, ask(address)).await;
    let answer = asked
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| NotReady::Silent { address, source })?;
    let status = answer.lines().next().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let said = body.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(said.escape_debug().to_string());
    }
    let answer = format!("{status}: {said}").escape_debug().to_string();
    Err(NotReady::Refused { address, answer })
}

async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut tcp = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tcp.take(MAX_PROBE_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
