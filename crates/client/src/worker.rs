//! Calls at a fixed rate, for containers and long runs.
//!
//! It does not make up for missed calls with a burst, and it keeps to the limit of open calls.

use countersign::base::backoff::jittered;
use countersign::program;
use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::telemetry::code_name;
use proto::inventory::v1::{
    GetItemRequest, ReserveManyRequest, ReserveStockRequest, WatchStockRequest,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tonic::Code;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::calls::Client;
use crate::events;
use crate::failure::Failure;
use countersign::client::RpcError;

use crate::method::Method;
use crate::settings::{WorkKind, WorkSettings};
use crate::tally::Tally;

/// Between the end of a watch and the next one, ±20 %.
const REWATCH_PAUSE: Duration = Duration::from_secs(1);

/// How often the log says that the worker works.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Items that are called about; a server may have more than a worker has use for.
const MAX_LEARNED: usize = 10_000;

/// Reservations in one stream.
const ROWS: usize = 4;

/// What a worker did.
#[derive(Debug)]
pub struct Done {
    /// What it counted.
    pub tally: Tally,
    /// How long it ran.
    pub elapsed: Duration,
    /// The last call that failed.
    pub last_error: Option<RpcError>,
}

/// Works until `stop` resolves or the time of the settings is over, and then until the open calls have ended, which
/// they do within `timeout`.
///
/// # Errors
/// The settings leave it without an item to ask about.
pub async fn work(
    client: Client,
    settings: &WorkSettings,
    timeout: Duration,
    stop: impl Future<Output = ()>,
) -> Result<Done, Failure> {
    let watches = settings.calls.contains(&WorkKind::Watch);
    if settings.sku.is_empty() && !watches {
        return Err(Failure::Usage(
            "there is no item to call: give --sku, or include watch in --calls, which finds the items",
        ));
    }
    let begin = Instant::now();
    let worker = Worker {
        client,
        timeout,
        kinds: settings
            .calls
            .iter()
            .copied()
            .filter(|kind| *kind != WorkKind::Watch)
            .collect(),
        state: Arc::new(Mutex::new(WorkerState {
            skus: settings.sku.clone(),
            ..WorkerState::default()
        })),
        learns: settings.sku.is_empty(),
    };
    let mut calls = JoinSet::new();
    let mut watch = JoinSet::new();
    if watches {
        watch.spawn(worker.clone().keep_watching());
    }
    let mut due = interval(settings.rate.period());
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut report = interval(REPORT_INTERVAL);
    report.tick().await;
    let mut stop = pin!(until(
        stop,
        settings
            .duration
            .map(|program::Duration(duration)| duration)
    ));
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(joined) = calls.join_next() => log_panic(joined),
            _ = report.tick() => worker.report(calls.len()),
            _ = due.tick() => {
                if calls.len() < settings.max_in_flight {
                    worker.begin(&mut calls);
                } else {
                    worker.state().tally.skip();
                }
            }
        }
    }
    watch.shutdown().await;
    while let Some(joined) = calls.join_next().await {
        log_panic(joined);
    }
    let state = worker.state();
    Ok(Done {
        tally: state.tally.clone(),
        elapsed: begin.elapsed(),
        last_error: state.last_error.clone(),
    })
}

async fn until(stop: impl Future<Output = ()>, duration: Option<Duration>) {
    let over = async {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop => {}
        () = over => {}
    }
}

fn log_panic(joined: Result<(), tokio::task::JoinError>) {
    if let Err(panicked) = joined {
        error!(%panicked, "{}", events::CALL_PANICKED);
    }
}

#[derive(Clone)]
struct Worker {
    client: Client,
    timeout: Duration,
    /// What each call is one of.
    kinds: Vec<WorkKind>,
    /// Whether the items are those that the watch names.
    learns: bool,
    state: Arc<Mutex<WorkerState>>,
}

#[derive(Default)]
struct WorkerState {
    tally: Tally,
    skus: Vec<String>,
    /// Those of `skus` that a watch named.
    learned: HashSet<String>,
    last_error: Option<RpcError>,
    /// Failures that are in the log since the last report: each is there once.
    logged: BTreeSet<(Method, &'static str)>,
}

impl WorkerState {
    /// Remembers an item that a watch named, unless there are enough to call about.
    fn learn(&mut self, sku: String) {
        if self.skus.len() < MAX_LEARNED && self.learned.insert(sku.clone()) {
            self.skus.push(sku);
        }
    }
}

impl Worker {
    /// Begins one call, if there is something to call about.
    fn begin(&self, calls: &mut JoinSet<()>) {
        let Some(kind) = fastrand::choice(&self.kinds).copied() else {
            return;
        };
        let Some(sku) = self.sku() else { return };
        let worker = self.clone();
        calls.spawn(async move {
            let begin = Instant::now();
            let (method, outcome) = worker.call(kind, sku).await;
            worker.ended(method, begin.elapsed(), outcome);
        });
    }

    async fn call(&self, kind: WorkKind, sku: String) -> (Method, Result<(), RpcError>) {
        let timeout = Some(self.timeout);
        match kind {
            WorkKind::GetItem => {
                let got = self.client.get_item(GetItemRequest { sku }, timeout).await;
                (Method::GetItem, got.map(drop))
            }
            WorkKind::Reserve => {
                let reservation_id = Uuid::now_v7().to_string();
                let request = ReserveStockRequest {
                    reservation_id,
                    sku,
                    quantity: 1,
                };
                let reserved = self.client.reserve_stock(request, timeout).await;
                (Method::ReserveStock, reserved.map(drop))
            }
            WorkKind::ReserveMany => {
                let row = || ReserveManyRequest {
                    reservation_id: Uuid::now_v7().to_string(),
                    sku: sku.clone(),
                    quantity: 1,
                };
                let requests: Vec<_> = (0..ROWS).map(|_| row()).collect();
                let go_on = |_: &ReserveManyRequest, _| ControlFlow::Continue(());
                (
                    Method::ReserveMany,
                    self.client.reserve_many(&requests, timeout, go_on).await,
                )
            }
            // Kept open beside the calls and never one of them.
            WorkKind::Watch => (Method::WatchStock, Ok(())),
        }
    }

    /// Watches everything, again whenever a watch ends. An open watch counts as a call with its first level, and once
    /// more when it breaks.
    async fn keep_watching(self) {
        loop {
            let begin = Instant::now();
            if let Err(error) = self.watch(begin).await {
                self.ended(Method::WatchStock, begin.elapsed(), Err(error));
            }
            sleep(jittered(REWATCH_PAUSE)).await;
        }
    }

    async fn watch(&self, begin: Instant) -> Result<(), RpcError> {
        let mut levels = self
            .client
            .watch_stock(WatchStockRequest::default(), None)
            .await?;
        let mut first = true;
        while let Some(level) = levels.next().await? {
            if first {
                self.ended(Method::WatchStock, begin.elapsed(), Ok(()));
                first = false;
            }
            let mut state = self.state();
            state.tally.level();
            if let Some(item) = level.item.filter(|_| self.learns) {
                state.learn(item.sku);
            }
        }
        Ok(())
    }

    fn ended(&self, method: Method, took: Duration, outcome: Result<(), RpcError>) {
        let mut state = self.state();
        let code = outcome
            .as_ref()
            .err()
            .map_or(Code::Ok, |error| error.status().code());
        state.tally.call(method, code, took);
        if let Err(error) = outcome {
            if state.logged.insert((method, code_name(code))) {
                warn!(%error, "{}", events::CALL_FAILED);
            }
            state.last_error = Some(error);
        }
    }

    fn report(&self, open: usize) {
        let mut state = self.state();
        let (calls, ok) = state.tally.totals();
        info!(
            calls,
            ok,
            open,
            items = state.skus.len(),
            "{}",
            events::WORKING
        );
        state.logged.clear();
    }

    fn sku(&self) -> Option<String> {
        fastrand::choice(&self.state().skus).cloned()
    }

    fn state(&self) -> MutexGuard<'_, WorkerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
