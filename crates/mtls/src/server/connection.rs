//! Serves one authenticated connection over HTTP/2, until it ends, is too old, drains, or loses its lease.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::TryFutureExt;
use futures_util::stream::{FuturesUnordered, Stream};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::{Peer, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tokio_util::io::InspectReader;

use crate::codes;
use crate::h2_error::h2_error;
use crate::handshake::Authenticated;
use crate::lease::{self, Lease};
use crate::refusal::Refusal;
use crate::server::executor::{ConnectionTasks, InConnection};
use crate::server::limits::Limits;
use crate::server::port::{Port, drain};
use crate::server::unread::{OpenResponses, ResponseBody, Watched};
use crate::server::wakeups::Wakeups;
use crate::trust::snapshot::Snapshot;

/// How long the streams of a connection that lost its lease have to send their status. Then the connection is cut.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long a peer without an open call has to answer during a drain. Then it does not hold the drain any longer.
const QUIET: Duration = Duration::from_secs(1);

/// How long before a certificate expires its connection is asked to move, as a share of the time that is left.
const MOVE_AT: f64 = 0.9;

/// Bytes that a peer may send ahead of what is read, on one stream and on one connection (RFC 9113 §5.2), and bytes of
/// one stream that wait for a peer to read. A message is smaller than each.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
const SEND_BUFFER: usize = 64 << 10;

/// The bytes of the preface (RFC 9113 §3.4), whatever they are: hyper looks at them.
const PREFACE: usize = 24;

/// How many times the allowed header list is still read, so that a call with too many headers gets a gRPC status.
const MORE_HEADERS: u32 = 4;

/// Why a connection is over.
pub(crate) enum Closed {
    /// It ended normally; the stable name of who began to close it.
    Ended(&'static str),
    /// Its lease is lost.
    Lost(Refusal),
    /// A deadline passed or a limit was met; the stable name of which.
    Cut(&'static str),
}

impl Closed {
    /// The stable name of the reason.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Lost(refusal) => refusal.code(),
            Self::Ended(code) | Self::Cut(code) => code,
        }
    }
}

/// Rare events of a connection.
enum ConnectionEvent {
    Lost(Refusal),
    Spoke,
    Silent,
    Unread,
    Aged,
    Idle,
    Draining,
    Quiet,
    Over,
}

type Events<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = ConnectionEvent> + Send + 'a>>>;

pub(crate) async fn drive<M, S, B, IO>(
    port: &Port<M>,
    authenticated: Authenticated<IO>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> Closed
where
    M: Fn(&Arc<Peer>, Lease) -> S,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: ResponseBody + Send + Unpin + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &port.limits;
    let Authenticated {
        stream,
        peer,
        chain,
    } = authenticated;
    let (lose, lease) = Lease::new();
    let service = (port.service_for)(&peer, lease);
    let own_expiry = snapshots.borrow().own().map(Peer::not_after).ok();
    let age = age(limits.max_connection_age, peer.not_after(), own_expiry);
    let calls = OpenResponses::new();
    let (spoke, spoken) = oneshot::channel();
    let io = InspectReader::new(stream, await_preface(spoke));

    let events = Events::new();
    // The lease first: a lease lost during the handshake ends the connection before a call is read.
    events.push(Box::pin(async {
        ConnectionEvent::Lost(lease::loss(Role::Client, &peer, &chain, snapshots).await)
    }));
    events.push(Box::pin(async move {
        match spoken.await {
            Ok(()) => ConnectionEvent::Spoke,
            // The connection is over, which it tells itself.
            Err(_over) => pending().await,
        }
    }));
    events.push(after(limits.preface_timeout, ConnectionEvent::Silent));
    events.push(Box::pin(async {
        calls.clone().stuck(limits.unread_timeout).await;
        ConnectionEvent::Unread
    }));
    events.push(after(age, ConnectionEvent::Aged));
    events.push(Box::pin(async {
        calls.clone().idle(limits.max_connection_idle).await;
        ConnectionEvent::Idle
    }));
    let draining = drain(port.draining.clone());
    events.push(Box::pin(async {
        draining.await;
        ConnectionEvent::Draining
    }));
    let mut events = pin!(events);

    let mut running = ConnectionTasks::default();
    let service = PeerService {
        service,
        peer: peer.clone(),
        calls: calls.clone(),
    };
    let mut conn =
        pin!(http2(limits, running.executor()).serve_connection(TokioIo::new(io), service));
    let mut speaking = false;
    let mut leaving = None;
    let mut lost: Option<Refusal> = None;
    let mut over = "";
    let wakeups = Wakeups::default();
    let mut parts = |cx: &mut Context<'_>| {
        while let Poll::Ready(Some(event)) = events.as_mut().poll_next(cx) {
            match event {
                ConnectionEvent::Lost(refusal) => {
                    lose.send_replace(Some(refusal.clone()));
                    lost = Some(refusal);
                    conn.as_mut().graceful_shutdown();
                    leaving = leaving.or(Some("CLOSED"));
                    over = codes::LAST_WORDS_TIMEOUT;
                    events.push(after(LAST_WORDS, ConnectionEvent::Over));
                }
                ConnectionEvent::Spoke => speaking = true,
                ConnectionEvent::Silent if !speaking => {
                    return Poll::Ready(Closed::Cut(codes::PREFACE_TIMEOUT));
                }
                ConnectionEvent::Unread => return Poll::Ready(Closed::Cut(codes::RESPONSE_UNREAD)),
                ConnectionEvent::Aged | ConnectionEvent::Idle if leaving.is_none() => {
                    conn.as_mut().graceful_shutdown();
                    let is_idle = matches!(event, ConnectionEvent::Idle);
                    leaving = Some(if is_idle { "IDLE" } else { "AGED" });
                    over = codes::CONNECTION_TOO_OLD;
                    events.push(after(
                        limits.max_connection_age_grace,
                        ConnectionEvent::Over,
                    ));
                }
                ConnectionEvent::Draining => {
                    if leaving.is_none() {
                        conn.as_mut().graceful_shutdown();
                        leaving = Some("DRAINED");
                    }
                    events.push(Box::pin(async {
                        sleep(QUIET).await;
                        calls.clone().idle(QUIET).await;
                        ConnectionEvent::Quiet
                    }));
                }
                ConnectionEvent::Quiet => {
                    return Poll::Ready(Closed::Ended(leaving.unwrap_or("DRAINED")));
                }
                ConnectionEvent::Over => {
                    return Poll::Ready(match lost.take() {
                        Some(refusal) => Closed::Lost(refusal),
                        None => Closed::Cut(over),
                    });
                }
                ConnectionEvent::Silent | ConnectionEvent::Aged | ConnectionEvent::Idle => {}
            }
        }
        loop {
            if let Poll::Ready(ended) = conn.as_mut().poll(cx) {
                return Poll::Ready(match (lost.take(), ended.err().as_ref().and_then(fault)) {
                    (Some(refusal), _) => Closed::Lost(refusal),
                    (None, Some(fault)) => Closed::Cut(fault),
                    (None, None) => Closed::Ended(leaving.unwrap_or("CLOSED")),
                });
            }
            // Send what the calls have written, all together.
            if !running.poll(cx) {
                return Poll::Pending;
            }
        }
    };
    poll_fn(|cx| wakeups.poll(cx, &mut parts)).await
}

/// Tells by `spoke` when the whole preface of HTTP/2 was read, which hyper waits for without a deadline.
fn await_preface(spoke: oneshot::Sender<()>) -> impl FnMut(&[u8]) + Send {
    let (mut left, mut spoke) = (PREFACE, Some(spoke));
    move |read| {
        left = left.saturating_sub(read.len());
        if left == 0
            && let Some(spoke) = spoke.take()
        {
            // Nobody waits for it any more once the connection is under way.
            spoke.send(()).ok();
        }
    }
}

fn after<'a>(
    pause: Duration,
    event: ConnectionEvent,
) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + 'a>> {
    Box::pin(async move {
        sleep(pause).await;
        event
    })
}

/// HTTP/2 with our limits. Everything that hyper leaves unlimited by default is set here.
fn http2(limits: &Limits, executor: InConnection) -> http2::Builder<InConnection> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        // No caller of gRPC asks for it.
        .auto_date_header(false)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_local_error_reset_streams(limits.max_local_resets)
        // More than is allowed, so that the caller gets a gRPC status: hyper's own response is not logged.
        .max_header_list_size(limits.max_header_list_size.saturating_mul(MORE_HEADERS))
        .max_frame_size(limits.max_frame_size)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

/// The code for a connection that we ended because of the peer.
fn fault(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some(codes::KEEPALIVE_TIMEOUT);
    }
    let h2 = h2_error(error).filter(|h2| !h2.is_remote())?;
    match h2.reason()? {
        h2::Reason::NO_ERROR => None,
        h2::Reason::ENHANCE_YOUR_CALM => Some(codes::FLOODED),
        _ => Some(codes::PROTOCOL_BROKEN),
    }
}

/// How long a connection lives before the peer is asked to reconnect: with jitter, so that clients do not reconnect all
/// at once, and before either side's certificate expires.
fn age(max: Duration, peer_expiry: SystemTime, own_expiry: Option<SystemTime>) -> Duration {
    let left = |expiry: SystemTime| {
        expiry
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO)
            .mul_f64(MOVE_AT)
    };
    let jittered = max.mul_f64(0.9 + 0.2 * fastrand::f64());
    let expiring = own_expiry.map_or(left(peer_expiry), |own| left(own).min(left(peer_expiry)));
    jittered.min(expiring.mul_f64(0.9 + 0.1 * fastrand::f64()))
}

/// Puts the peer into every request, hands it on, and knows which calls are open.
struct PeerService<S> {
    service: S,
    peer: Arc<Peer>,
    calls: OpenResponses,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for PeerService<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: ResponseBody + Unpin + 'static,
{
    type Response = Response<Watched<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.service.call(request);
        let call = self.calls.begin();
        Box::pin(answer.map_ok(|response| response.map(|body| call.watch(body))))
    }
}
