//! The connection to one address of a server: made on demand, replaced when our own certificate changes.
//!
//! Attempts have backoff, and calls share one attempt.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::backoff::Backoff;
use identity::Peer;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::client::dial::{ConnectCause, ConnectError, Dialer, OpenConnection};
use crate::events;

/// The longest time that a client uses its old certificate after a new one is available.
const MAX_ROTATION_JITTER: Duration = Duration::from_secs(5);

/// How much longer each pause between attempts is than the last one (gRPC connection backoff protocol).
const FACTOR: f64 = 1.6;

/// A connection that ends sooner counts as a failed attempt, so that a server that closes each connection is not
/// dialled without a pause.
const SHORT_LIFE: Duration = Duration::from_millis(100);

/// After this many in a row, calls fail. One can happen while the server changes its certificate; then calls wait for
/// the next connection.
const SHORT_LIVES: u32 = 2;

/// A handle to one address. The connection goes when the last clone does.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    state: watch::Receiver<EndpointState>,
    wanted: Arc<Notify>,
    _task: Arc<AbortOnDropHandle<()>>,
}

/// The state of the connection to an address.
#[derive(Clone, Debug)]
pub(crate) enum EndpointState {
    /// There has been no call since the last connection ended.
    Idle,
    /// It is being dialled for the first time since then.
    Connecting,
    /// It can take calls.
    Ready(Arc<OpenConnection>),
    /// The last attempt failed, and the next one is due after a pause.
    Failed(ConnectError),
}

impl EndpointState {
    pub(crate) fn ready(self) -> Option<Arc<OpenConnection>> {
        match self {
            Self::Ready(connection) => Some(connection),
            Self::Idle | Self::Connecting | Self::Failed(_) => None,
        }
    }

    pub(crate) fn failed(self) -> Option<ConnectError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Idle | Self::Connecting | Self::Ready(_) => None,
        }
    }
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, dialer: Arc<Dialer>) -> Self {
        let (publish, state) = watch::channel(EndpointState::Idle);
        let wanted = Arc::new(Notify::new());
        let task = tokio::spawn(keep(address, dialer, publish, wanted.clone()));
        Self {
            state,
            wanted,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    /// The state now. Asking wakes an idle address.
    pub(crate) fn state(&self) -> EndpointState {
        let state = self.state.borrow().clone();
        let is_to_be_dialled = match &state {
            EndpointState::Ready(connection) => !connection.is_usable(),
            EndpointState::Idle => true,
            EndpointState::Connecting | EndpointState::Failed(_) => false,
        };
        if is_to_be_dialled {
            self.wanted.notify_one();
            return EndpointState::Connecting;
        }
        state
    }

    /// Resolves at the first change of state after this call.
    pub(crate) fn watch(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = self.state.clone();
        state.mark_unchanged();
        Box::pin(async move {
            if state.changed().await.is_err() {
                std::future::pending().await
            }
        })
    }
}

async fn keep(
    address: SocketAddr,
    dialer: Arc<Dialer>,
    publish: watch::Sender<EndpointState>,
    wanted: Arc<Notify>,
) {
    let mut backoff = Backoff::new(
        dialer.options.min_backoff,
        dialer.options.max_backoff,
        FACTOR,
    );
    let mut short_lives = 0_u32;
    loop {
        wanted.notified().await;
        if short_lives < SHORT_LIVES {
            publish.send_replace(EndpointState::Connecting);
        }
        let mut connection = loop {
            let mut snapshots = dialer.trust.subscribe();
            snapshots.mark_unchanged();
            match dialer.dial(address).await {
                Ok(connection) => break connection,
                Err(error) => {
                    let pause = backoff.pause();
                    warn!(%address, code = error.code(), reason = %error, retry_in = ?pause, "{}", events::CONNECTION_FAILED);
                    publish.send_replace(EndpointState::Failed(error));
                    tokio::select! {
                        () = sleep(pause) => {}
                        // What failed with the last credentials may succeed with these.
                        Ok(()) = snapshots.changed() => backoff.reset(),
                    }
                }
            }
        };
        let connected = Instant::now();
        loop {
            debug!(%address, "{}", events::CONNECTED);
            publish.send_replace(EndpointState::Ready(connection.clone()));
            tokio::select! {
                () = connection.closed() => break,
                () = rotated(&dialer, &connection) => {}
            }
            // The old connection is used until the new one is ready, and then finishes its calls.
            let mut snapshots = dialer.trust.subscribe();
            snapshots.mark_unchanged();
            match dialer.dial(address).await {
                Ok(next) => {
                    info!(%address, generation = next.snapshot.generation(), "{}", events::MOVED);
                    connection = next;
                }
                Err(error) => {
                    let pause = backoff.pause();
                    warn!(%address, code = error.code(), reason = %error, retry_in = ?pause, "{}", events::MOVE_FAILED);
                    tokio::select! {
                        () = connection.closed() => break,
                        () = sleep(pause) => {}
                        Ok(()) = snapshots.changed() => backoff.reset(),
                    }
                }
            }
        }
        if connected.elapsed() > SHORT_LIFE {
            backoff.reset();
            short_lives = 0;
            publish.send_replace(EndpointState::Idle);
            continue;
        }
        let pause = backoff.pause();
        short_lives = short_lives.saturating_add(1);
        if short_lives < SHORT_LIVES {
            sleep(pause).await;
            publish.send_replace(EndpointState::Idle);
            continue;
        }
        let last_words = connection.last_words.get().cloned();
        let error = dialer.error(Some(address), ConnectCause::ClosedAtOnce(last_words));
        warn!(%address, code = error.code(), reason = %error, retry_in = ?pause, "{}", events::CONNECTION_FAILED);
        publish.send_replace(EndpointState::Failed(error));
        sleep(pause).await;
        // As after a failed attempt, the next attempt is made even if no call waits.
        wanted.notify_one();
    }
}

/// Waits until our certificate differs from the one that the connection was made with, and then a little longer, so
/// that not all clients move at once.
async fn rotated(dialer: &Dialer, connection: &OpenConnection) {
    let mut snapshots = dialer.trust.subscribe();
    let mine = connection.snapshot.leaf().cloned();
    let gone = snapshots
        .wait_for(|current| current.leaf().cloned() != mine)
        .await
        .is_err();
    if gone {
        return std::future::pending().await;
    }
    let left = connection
        .snapshot
        .own()
        .map(Peer::not_after)
        .ok()
        .and_then(|not_after| not_after.duration_since(SystemTime::now()).ok());
    let most = left
        .unwrap_or_default()
        .mul_f64(0.1)
        .min(MAX_ROTATION_JITTER);
    sleep(most.mul_f64(fastrand::f64())).await;
}
