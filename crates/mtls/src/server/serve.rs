//! Accepts sockets, authenticates their peers, and serves each connection until it or the server ends.
//!
//! Every wait has a deadline and every resource a limit.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use identity::Peer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::{error, info, warn};

use crate::codes;
use crate::events;
use crate::handshake::{self, Authenticated, Handshake};
use crate::handshake_error::{HandshakeError, read_error};
use crate::lease::Lease;
use crate::server::admission::Admitted;
use crate::server::connection::{self, Closed};
use crate::server::limits::Limits;
use crate::server::port::{Port, drain};
use crate::server::unread::ResponseBody;
use crate::socket;
use crate::trust::live::Trust;
use crate::trust::snapshot::Snapshot;

/// How long accepting pauses when the system has no descriptor or memory for another socket.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every connection finished by itself.
    Clean,
    /// The drain deadline passed, and this many connections were cut.
    Cut(usize),
}

/// Serves until `shutdown` resolves, then lets open calls finish, for [`Limits::drain_timeout`] at most.
///
/// Every connection gets its own service from `service_for`, made from its peer and its [`Lease`]. Requests carry the peer as an extension of type `Arc<Peer>`.
pub async fn serve<M, S>(
    listener: TcpListener,
    trust: Trust,
    limits: Limits,
    service_for: M,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    M: Fn(&Arc<Peer>, Lease) -> S + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let service_for = move |peer: &Arc<Peer>, lease: Lease| {
        let service = service_for(peer, lease);
        service_fn(move |request: Request<Incoming>| {
            service.clone().oneshot(request.map(Body::new))
        })
    };
    serve_incoming(listener, trust, limits, service_for, shutdown).await
}

/// As [`serve`], for a service that takes what hyper gives and answers with a body of its own, so that neither is put
/// into a box.
///
/// The calls of a connection run in the connection's task. A handler that blocks or computes for long delays the other
/// calls of its connection, but not those of other connections: it should spawn such work.
pub async fn serve_incoming<M, S, B>(
    listener: TcpListener,
    trust: Trust,
    limits: Limits,
    service_for: M,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    M: Fn(&Arc<Peer>, Lease) -> S + Send + Sync + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: ResponseBody + Send + Unpin + 'static,
{
    let (port, drain) = Port::new(trust, limits, service_for);
    let port = Arc::new(port);
    let mut tasks = JoinSet::new();
    let serve_one = |tcp, address, permit| one(port.clone(), tcp, address, permit);
    accept(listener, &port, &mut tasks, shutdown, serve_one).await;
    info!(connections = tasks.len(), "{}", events::DRAINING);
    drain.send_replace(true);
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if timeout(port.limits.drain_timeout, all).await.is_ok() {
        return Drained::Clean;
    }
    let cut = tasks.len();
    tasks.shutdown().await;
    warn!(connections = cut, "{}", events::DRAIN_CUT);
    Drained::Cut(cut)
}

/// Accepts sockets until `stop` resolves, and closes the port then. Each is served by a task, which holds a permit for it
/// to be one of the connections.
pub(crate) async fn accept<M, F>(
    listener: TcpListener,
    port: &Port<M>,
    tasks: &mut JoinSet<()>,
    stop: impl Future<Output = ()>,
    serve_one: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(port.limits.max_connections.max(1)));
    let mut stop = std::pin::pin!(stop);
    let mut is_full = false;
    loop {
        let was_full = std::mem::replace(&mut is_full, connections.available_permits() == 0);
        if is_full && !was_full {
            warn!(
                code = codes::CONNECTIONS_FULL,
                "{}",
                events::CONNECTIONS_FULL
            );
        }
        let permit = tokio::select! {
            () = &mut stop => return,
            Some(ended) = tasks.join_next() => { report(ended); continue }
            Ok(permit) = connections.clone().acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = &mut stop => return,
            Some(ended) = tasks.join_next() => { report(ended); continue }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                tasks.spawn(serve_one(tcp, address, permit));
            }
            Err(fault) => {
                port.trust.counts().unaccepted.inc();
                error!(reason = %fault, "{}", events::ACCEPT_FAILED);
                tokio::select! {
                    () = &mut stop => return,
                    () = sleep(ACCEPT_BACKOFF) => {}
                }
            }
        }
    }
}

/// A connection task that panicked has a bug. Only its connection is lost.
fn report(ended: Result<(), JoinError>) {
    if let Err(panicked) = ended
        && panicked.is_panic()
    {
        error!(%panicked, "{}", events::CONNECTION_TASK_FAILED);
    }
}

/// A connection that was let in, its snapshots from before the handshake, and its place.
type LetIn = (
    Authenticated<Box<TlsStream<TcpStream>>>,
    watch::Receiver<Arc<Snapshot>>,
    Admitted,
);

/// One socket, until its peer is known and has a place.
pub(crate) async fn admit<M>(port: &Port<M>, tcp: TcpStream, address: SocketAddr) -> Option<LetIn> {
    // Before the handshake, so that a change of trust while it runs is not missed.
    let mut snapshots = port.trust.subscribe();
    let snapshot = snapshots.borrow_and_update().clone();
    let handshake = Handshake::with_client();
    let authenticated = authenticate(port, tcp, address, &snapshot, &handshake).await?;
    drop(snapshot);
    let counts = port.trust.counts();
    let authenticated = match authenticated {
        Ok(authenticated) => authenticated,
        Err(refused) => {
            counts.refused.add(refused.code());
            let says = handshake.refused();
            warn!(
                peer.address = %address,
                code = refused.code(),
                reason = %refused,
                tls.client.subject = says.map(|certificate| &*certificate.subject),
                tls.client.issuer = says.map(|certificate| &*certificate.issuer),
                tls.client.serial = says.map(|certificate| &*certificate.serial),
                tls.client.hash.sha256 = says.map(|certificate| &*certificate.sha256),
                "{}", events::CONNECTION_REFUSED
            );
            return None;
        }
    };
    counts.accepted.inc();
    let peer = &authenticated.peer;
    let Some(admitted) = port.admission.peer(peer) else {
        counts.shed.add(codes::TOO_MANY_CONNECTIONS);
        warn!(peer.address = %address, peer.identity = %peer, code = codes::TOO_MANY_CONNECTIONS, "{}", events::CONNECTION_REFUSED);
        return None;
    };
    Some((authenticated, snapshots, admitted))
}

/// One socket, from accept to close.
async fn one<M, S, B>(
    port: Arc<Port<M>>,
    tcp: TcpStream,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
) where
    M: Fn(&Arc<Peer>, Lease) -> S + Send + Sync + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: ResponseBody + Send + Unpin + 'static,
{
    // A separate future, so that an idle connection does not keep the memory of its handshake.
    let admission = Box::pin(admit(&port, tcp, address));
    let Some((authenticated, snapshots, _admitted)) = admission.await else {
        return;
    };
    let peer = authenticated.peer.clone();
    let began = Instant::now();
    let live = port.trust.counts().connection(&peer);
    let closed = connection::drive(&port, authenticated, snapshots).await;
    live.end(closed.code());
    match closed {
        Closed::Ended(_) => {}
        Closed::Lost(refusal) => {
            info!(peer.address = %address, peer.identity = %peer, code = refusal.code(), reason = %refusal, "{}", events::LEASE_LOST);
        }
        Closed::Cut(what) => {
            warn!(peer.address = %address, peer.identity = %peer, code = what, age = ?began.elapsed(), "{}", events::CONNECTION_CUT);
        }
    }
}

/// The handshake of one socket; `None` when the port began to drain first.
async fn authenticate<M>(
    port: &Port<M>,
    tcp: TcpStream,
    address: SocketAddr,
    snapshot: &Snapshot,
    handshake: &Arc<Handshake>,
) -> Option<Result<Authenticated<Box<TlsStream<TcpStream>>>, HandshakeError>> {
    let (newcomer, evicted) = port.admission.newcomer(address.ip());
    tokio::select! {
        authenticated = within(port.limits.handshake_timeout, async {
            socket::configure(&tcp, port.limits.keepalive_timeout).map_err(|e| read_error(&e))?;
            // Wait before the handshake, so that a silent socket costs only its place.
            tcp.readable().await.map_err(|e| read_error(&e))?;
            newcomer.spoke();
            handshake::accept(tcp, snapshot, handshake).await
        }) => Some(authenticated),
        Ok(()) = evicted => Some(Err(HandshakeError::Evicted)),
        () = drain(port.draining.clone()) => None,
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    timeout(limit, work)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut))
}

/// Binds a listener, with an error that says what to do.
///
/// # Errors
/// The address is taken, not ours, or a privileged port.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Unbound> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Unbound { address, source })
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another address or stop what uses it")]
pub struct Unbound {
    address: SocketAddr,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use hyper_util::service::TowerToHyperService;
    use tower::util::BoxCloneService;

    use super::*;

    type Calls =
        TowerToHyperService<BoxCloneService<Request<Incoming>, Response<Body>, Infallible>>;
    type Maker = fn(&Arc<Peer>, Lease) -> Calls;

    /// The bytes of what a function of three or four parameters returns.
    fn bytes_of_3<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    fn bytes_of_4<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_keeps_no_room_of_its_handshake() {
        type Stream = Box<TlsStream<TcpStream>>;
        let task = bytes_of_4(one::<Maker, Calls, Body>);
        let driven = bytes_of_3(|port, authenticated, snapshots| {
            connection::drive::<Maker, Calls, Body, Stream>(port, authenticated, snapshots)
        });
        let beside = task.saturating_sub(driven);
        assert!(beside <= 768, "{task} bytes, {driven} of them to drive it");
    }
}
