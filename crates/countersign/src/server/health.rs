//! The health of the server: one state, reported by gRPC health checks, `/livez` and `/readyz`.
//!
//! The state is not "serving" while callers would refuse our certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::metrics::{self, NONE};
use identity::Peer;
use mtls::{Refusal, Trust};
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::{info, warn};

use crate::admin::Readiness;
use crate::events;

/// The names under which health checks can ask for the state, besides those of the services: the process, and the two
/// probes.
const PROCESS: &str = "";
const LIVENESS: &str = "liveness";
const READINESS: &str = "readiness";

/// Why the process is not ready once it was asked to stop.
const DRAINING: &str = "draining";

const EXPIRED: &str = "own certificate expired";
const NOT_YET_VALID: &str = "own certificate not valid yet";

/// A health request holds the name of a service and no more.
const MAX_REQUEST: usize = 4 << 10;

/// How long a change of the wall clock may go unnoticed.
const CLOCK_CHECK: Duration = Duration::from_millis(500);

/// The state, shared by everything that reports it.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    services: Arc<[&'static str]>,
    readiness: watch::Sender<Readiness>,
    reporting: Arc<Mutex<()>>,
}

impl Health {
    /// A health state that begins as `first`, for `services` by their full names.
    pub(crate) async fn new(services: &[&'static str], first: Readiness) -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
            services: services.into(),
            readiness: watch::Sender::new(first.clone()),
            reporting: Arc::default(),
        };
        health
            .reporter
            .set_service_status(LIVENESS, ServingStatus::Serving)
            .await;
        health.report(status(&first)).await;
        health
    }

    /// The gRPC service `grpc.health.v1.Health`.
    pub(crate) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
            .max_decoding_message_size(MAX_REQUEST)
    }

    /// Whether the server is ready for new calls.
    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.borrow().clone()
    }

    /// Registers the metrics of readiness and of draining.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let health = self.clone();
        metrics::register(registry, move |families| {
            let readiness = health.readiness();
            families.gauge(
                "rpc_server_ready",
                "1 while the server is ready for new calls, else 0.",
                [(NONE, u64::from(readiness == Readiness::Ready))],
            )?;
            let draining = readiness == Readiness::NotReady(DRAINING);
            families.gauge(
                "rpc_server_draining",
                "1 while the server drains, else 0.",
                [(NONE, u64::from(draining))],
            )
        });
    }

    /// Sets the process to not ready for good, because it will stop. `liveness` does not change.
    pub(crate) async fn drain(&mut self) {
        self.set(Readiness::NotReady(DRAINING)).await;
    }

    /// Ends the open health `Watch` streams after a last message, so that they do not delay the drain.
    pub(crate) async fn end(&mut self) {
        for name in [PROCESS, LIVENESS, READINESS]
            .into_iter()
            .chain(self.services.iter().copied())
        {
            self.reporter.clear_service_status(name).await;
        }
    }

    /// Reports not ready while our own certificate is invalid, because every caller would refuse it, and while
    /// `needed`, the handlers' dependencies, is not ready.
    pub(crate) async fn follow(self, trust: Trust, mut needed: watch::Receiver<Readiness>) {
        let mut snapshots = trust.subscribe();
        loop {
            let now = SystemTime::now();
            let snapshot = snapshots.borrow_and_update().clone();
            let doubt = snapshot.own().map_or_else(
                |refusal| Some(doubted(refusal)),
                |own| outside_of_validity(own, now),
            );
            let left = snapshot.own().map(Peer::not_after).ok();
            let left = left.and_then(|at| at.duration_since(now).ok());
            let needs = needed.borrow_and_update().clone();
            self.set(doubt.map_or(needs, Readiness::NotReady)).await;
            tokio::select! {
                () = sleep(left.unwrap_or(CLOCK_CHECK).min(CLOCK_CHECK)) => {}
                changed = snapshots.changed() => if changed.is_err() { return },
                // Its sender is gone, so it cannot change any more.
                Ok(()) = needed.changed() => {}
            }
        }
    }

    async fn set(&self, readiness: Readiness) {
        // Until it is reported too, so that no older report comes later.
        let _one_at_a_time = self.reporting.lock().await;
        let changed = self.readiness.send_if_modified(|now| {
            let changes = *now != Readiness::NotReady(DRAINING) && *now != readiness;
            if changes {
                now.clone_from(&readiness);
            }
            changes
        });
        if !changed {
            return;
        }
        match readiness {
            Readiness::Ready => info!("{}", events::READY),
            Readiness::NotReady(reason) => warn!(reason, "{}", events::NOT_READY),
        }
        self.report(status(&readiness)).await;
    }

    async fn report(&self, status: ServingStatus) {
        for name in [PROCESS, READINESS]
            .into_iter()
            .chain(self.services.iter().copied())
        {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

fn status(readiness: &Readiness) -> ServingStatus {
    match readiness {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady(_) => ServingStatus::NotServing,
    }
}

fn outside_of_validity(own: &Peer, now: SystemTime) -> Option<&'static str> {
    if now > own.not_after() {
        return Some(EXPIRED);
    }
    (now < own.not_before()).then_some(NOT_YET_VALID)
}

/// Why peers with the same roots and lists would refuse our own certificate.
fn doubted(refusal: &Refusal) -> &'static str {
    match refusal.cause() {
        Refusal::Expired { .. } => EXPIRED,
        Refusal::NotYetValid { .. } => NOT_YET_VALID,
        Refusal::Revoked => "own certificate revoked",
        Refusal::UnknownIssuer => "own certificate not under our own roots",
        // The log has the text of the reason.
        _ => "own certificate refused by our own rules",
    }
}
