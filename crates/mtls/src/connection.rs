//! The life of one authenticated connection: HTTP/2 until it ends, grows old, drains, or loses its authority.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::call::{self, Observed};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::{Peer, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::Span;

use crate::authority::{self, Authority};
use crate::handshake::Authenticated;
use crate::limits::Limits;
use crate::preface::Preface;
use crate::response::h2_error;
use crate::serve::{Port, drain};
use crate::snapshot::Snapshot;
use crate::unread::Responses;
use crate::verify::Refusal;

/// How long the streams of a connection that lost its authority have to send their status, and a peer that has not
/// spoken yet has to begin when we are about to stop. What is left is cut.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long before a certificate expires its connection is asked to move, as a share of the time that is left.
const MOVE_AT: f64 = 0.9;

/// Bytes that a peer may send ahead of what is read, on one stream and on one connection (RFC 9113 §5.2), and bytes of
/// one stream that wait for a peer to read. A message is smaller than each.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
const SEND_BUFFER: usize = 64 << 10;

/// How many times the header list that a call may have is read, to be answered by whoever counts it.
const MORE_HEADERS: u32 = 4;

/// Why a connection is over.
pub(crate) enum Closed {
    /// The peer went away, or all was said; the stable name of who began to leave.
    Ended(&'static str),
    /// It may not go on.
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

pub(crate) async fn drive<M, S, IO>(
    port: &Port<M>,
    authenticated: Authenticated<IO>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> Closed
where
    M: Fn(&Arc<Peer>, Authority) -> S,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &port.limits;
    let Authenticated {
        stream,
        peer,
        chain,
    } = authenticated;
    let (lose, authority) = Authority::new();
    let service = (port.service_for)(&peer, authority);
    let own_expiry = snapshots.borrow().own().map(Peer::not_after).ok();
    let mut old = pin!(sleep(age(
        limits.max_connection_age,
        peer.not_after(),
        own_expiry
    )));
    let mut loss = pin!(authority::loss(Role::Client, &peer, &chain, snapshots));
    let mut draining = pin!(drain(port.draining.clone()));

    let open = watch::Sender::new(0);
    let mut idle = pin!(idle(limits.max_connection_idle, open.subscribe()));
    let responses = Responses::default();
    let mut stuck = pin!(responses.clone().stuck(limits.unread_timeout));
    let service = service
        .map_response(move |response: Response<Body>| response.map(|body| responses.watch(body)));
    let (io, mut spoken) = Preface::new(stream);
    let mut conn = pin!(http2(limits).serve_connection(
        TokioIo::new(io),
        PeerService {
            service,
            peer: peer.clone(),
            open: open.clone(),
        }
    ));
    let mut silence = pin!(sleep(limits.preface_timeout));
    let mut speaking = false;
    let mut leaving = false;
    let mut left = "CLOSED";
    let mut lost = None;
    let mut end: Option<(Pin<Box<Sleep>>, &'static str)> = None;
    loop {
        tokio::select! {
            // Authority first: what was lost during the handshake is lost before a call is read.
            biased;
            refusal = &mut loss, if lost.is_none() => {
                lose.send_replace(Some(refusal.clone()));
                lost = Some(refusal);
                conn.as_mut().graceful_shutdown();
                leaving = true;
                end = Some((Box::pin(sleep(LAST_WORDS)), "LAST_WORDS_TIMEOUT"));
            }
            ended = conn.as_mut() => return match (lost, ended.err().as_ref().and_then(fault)) {
                (Some(refusal), _) => Closed::Lost(refusal),
                (None, Some(fault)) => Closed::Cut(fault),
                (None, None) => Closed::Ended(left),
            },
            _ = &mut spoken, if !speaking => speaking = true,
            () = &mut silence, if !speaking => return Closed::Cut("PREFACE_TIMEOUT"),
            () = &mut stuck => return Closed::Cut("RESPONSE_UNREAD"),
            () = &mut old, if !leaving => {
                conn.as_mut().graceful_shutdown();
                (leaving, left) = (true, "AGED");
                end = Some((Box::pin(sleep(limits.max_connection_age_grace)), "CONNECTION_TOO_OLD"));
            }
            () = &mut idle, if !leaving => {
                conn.as_mut().graceful_shutdown();
                (leaving, left) = (true, "IDLE");
                end = Some((Box::pin(sleep(limits.max_connection_age_grace)), "CONNECTION_TOO_OLD"));
            }
            () = &mut draining, if !leaving => {
                conn.as_mut().graceful_shutdown();
                // Who has not spoken yet must not hold up the end.
                let soon = Instant::now() + LAST_WORDS;
                let due = silence.deadline().min(soon);
                silence.as_mut().reset(due);
                (leaving, left) = (true, "DRAINED");
            }
            what = over(&mut end), if end.is_some() => {
                return lost.map_or(Closed::Cut(what), Closed::Lost);
            }
        }
    }
}

/// HTTP/2 within our limits. What hyper would leave open by default is set here, all of it.
fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_local_error_reset_streams(limits.max_local_resets)
        // Some more than is allowed, so that who sends it gets a status of gRPC's: hyper's own answer is in no log.
        .max_header_list_size(limits.max_header_list_size.saturating_mul(MORE_HEADERS))
        .max_frame_size(limits.max_frame_size)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

/// What we hold against a peer whose connection ended by our doing.
fn fault(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some("KEEPALIVE_TIMEOUT");
    }
    let h2 = h2_error(error).filter(|h2| !h2.is_remote())?;
    match h2.reason()? {
        h2::Reason::NO_ERROR => None,
        h2::Reason::ENHANCE_YOUR_CALM => Some("FLOODED"),
        _ => Some("PROTOCOL_BROKEN"),
    }
}

/// Resolves when no call was open for `limit` on end.
async fn idle(limit: Duration, mut open: watch::Receiver<usize>) {
    loop {
        let busy = *open.borrow_and_update() > 0;
        tokio::select! {
            () = sleep(limit), if !busy => return,
            changed = open.changed() => if changed.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

async fn over(end: &mut Option<(Pin<Box<Sleep>>, &'static str)>) -> &'static str {
    match end {
        Some((deadline, what)) => {
            deadline.await;
            what
        }
        None => std::future::pending().await,
    }
}

/// How long a connection lives before it is asked to go: jittered, so that many do not come back at once, and early
/// enough to move before either side's certificate expires.
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

/// Puts the peer into every request, hands it on, and knows how many calls are open.
struct PeerService<S> {
    service: S,
    peer: Arc<Peer>,
    open: watch::Sender<usize>,
}

impl<S> hyper::service::Service<Request<Incoming>> for PeerService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Observed<tower::util::Oneshot<S, Request<Body>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        self.open.send_modify(|open| *open += 1);
        let open = self.open.clone();
        call::observed(
            self.service.clone().oneshot(request),
            Span::none(),
            move |_code| open.send_modify(|open| *open -= 1),
        )
    }
}
