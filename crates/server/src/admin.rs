//! The port for probes and scrapers: plaintext, on an address of its own, with nothing on it that needs a secret.
//!
//! Never an RPC of the service, never a name of a caller, never a way to change anything.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tracing::error;

use crate::health::{Health, Readiness};

/// Probes and scrapers are few; more than this many connections wait in the listen backlog.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lives: a scraper that never reads must not keep its place.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves gRPC health (HTTP/2 without TLS), `/livez` and `/readyz` until `stop` resolves.
pub(crate) async fn serve(listener: TcpListener, health: Health, stop: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(router(&health));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (place, accepted) = tokio::select! {
            () = &mut stop => return,
            Some(_ended) = connections.join_next() => continue,
            next = async { (places.clone().acquire_owned().await, listener.accept().await) } => next,
        };
        let (tcp, place) = match (accepted, place) {
            (Ok((tcp, _)), Ok(place)) => (tcp, place),
            (Err(fault), _) => {
                error!(reason = %fault, "cannot accept on the admin port; trying again");
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
            (Ok(_), Err(_closed)) => return,
        };
        let service = service.clone();
        connections.spawn(async move {
            let _place = place;
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(16);
            let conn = builder.serve_connection(TokioIo::new(tcp), service);
            // How a probe's connection ends is of no interest.
            drop(timeout(MAX_AGE, conn).await);
        });
    }
}

fn router(health: &Health) -> Router {
    let readyz = {
        let health = health.clone();
        move || async move {
            match health.readiness() {
                Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
                Readiness::NotReady(reason) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {reason}\n"),
                ),
            }
        }
    };
    Routes::new(health.service())
        .into_axum_router()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
}
