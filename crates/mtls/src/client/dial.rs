//! One attempt to connect to one address of a server: TCP, TLS and HTTP/2 within one deadline.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tonic::body::Body;
use tracing::debug;

use crate::client::options::ChannelOptions;
use crate::client::record::Record;
use crate::client::target::Target;
use crate::client::wire::{LastMessage, LastWords, Wire};
use crate::codes;
use crate::counts::CountedConnection;
use crate::events;
use crate::handshake::{self, Authenticated, Present};
use crate::handshake_error::{HandshakeError, read_error};
use crate::lease;
use crate::refusal::Refusal;
use crate::socket;
use crate::trust::live::Trust;
use crate::trust::server_identity::ServerIdentity;
use crate::trust::snapshot::Snapshot;
use base::text::timestamp;

/// Bytes of the metadata of one response, headers or trailers (RFC 9113 §6.5.2).
pub(crate) const MAX_METADATA: u32 = 16 << 10;

/// The parameters of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) target: Target,
    pub(crate) expected: ServerIdentity,
    pub(crate) trust: Trust,
    pub(crate) options: ChannelOptions,
}

/// The server could not be reached, or one side refused the other.
#[derive(Clone, Debug)]
pub struct ConnectError {
    target: String,
    address: Option<SocketAddr>,
    expected: String,
    own: String,
    cause: ConnectCause,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConnectCause {
    #[error("its name does not resolve: {0}")]
    Resolve(#[source] Arc<io::Error>),
    #[error("its name has no address")]
    NoAddress,
    #[error("{0}; is it running, and is this its port?")]
    Tcp(#[source] Arc<io::Error>),
    #[error("{0}")]
    Handshake(#[source] HandshakeError),
    #[error("the connection attempt timed out")]
    TimedOut,
    #[error(
        "each connection is closed as soon as it is established; {}",
        .0.as_ref().map_or("the server gave no reason".to_owned(), ToString::to_string)
    )]
    ClosedAtOnce(Option<LastMessage>),
}

impl ConnectError {
    /// The stable name of the cause, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        match &self.cause {
            ConnectCause::Resolve(_) | ConnectCause::NoAddress => codes::NAME_NOT_RESOLVED,
            ConnectCause::Tcp(_) => codes::UNREACHABLE,
            ConnectCause::Handshake(cause) => cause.code(),
            ConnectCause::TimedOut => codes::CONNECT_TIMEOUT,
            ConnectCause::ClosedAtOnce(_) => codes::CLOSED_AT_ONCE,
        }
    }

    /// How the handshake failed, if it got that far.
    pub fn handshake(&self) -> Option<&HandshakeError> {
        if let ConnectCause::Handshake(cause) = &self.cause {
            return Some(cause);
        }
        None
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reach {}", self.target)?;
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        let cause = &self.cause;
        match self.handshake() {
            Some(HandshakeError::RefusedByPeer(_)) => write!(f, ": {cause}; ours is {}", self.own),
            Some(_) => write!(f, " (expected {}): {cause}", self.expected),
            None => write!(f, ": {cause}"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

impl Dialer {
    pub(crate) fn error(&self, address: Option<SocketAddr>, cause: ConnectCause) -> ConnectError {
        let own = match self.trust.current().own() {
            Ok(own) => format!("{own}, valid until {}", timestamp(own.not_after())),
            Err(refusal) => format!("doubtful: {refusal}"),
        };
        ConnectError {
            target: self.target.to_string(),
            address,
            expected: self.expected.to_string(),
            own,
            cause,
        }
    }

    pub(crate) async fn dial(
        &self,
        address: SocketAddr,
    ) -> Result<Arc<OpenConnection>, ConnectError> {
        let dialled = self.attempt(address).await;
        let counts = self.trust.counts();
        match &dialled {
            Ok(_) => drop(counts.accepted.inc()),
            Err(error) => counts.refused.add(error.code()),
        }
        dialled
    }

    async fn attempt(&self, address: SocketAddr) -> Result<Arc<OpenConnection>, ConnectError> {
        // Before the handshake, so that a change of trust while it runs is not missed.
        let mut snapshots = self.trust.subscribe();
        let snapshot = snapshots.borrow_and_update().clone();
        let attempt = timeout(self.options.connect_timeout, async {
            let tcp = TcpStream::connect(address)
                .await
                .map_err(|e| ConnectCause::Tcp(Arc::new(e)))?;
            socket::configure(&tcp, self.options.keepalive_timeout)
                .map_err(|e| ConnectCause::Tcp(Arc::new(e)))?;
            let sni = self.target.server_name();
            handshake::connect(
                tcp,
                sni,
                self.expected.clone(),
                &snapshot,
                Present::Certificate,
            )
            .await
            .map_err(ConnectCause::Handshake)
        });
        let authenticated = attempt
            .await
            .unwrap_or(Err(ConnectCause::TimedOut))
            .map_err(|cause| self.error(Some(address), cause))?;
        let Authenticated {
            stream,
            peer,
            chain,
        } = authenticated;
        let (stream, last_words, cut) = Wire::new(stream);
        let (send, conn) = http2::Builder::new(BoxingExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .max_header_list_size(MAX_METADATA)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.error(Some(address), ConnectCause::Handshake(ended(&e))))?;
        let (end, ending) = watch::channel(Ending::Open);
        let live = self.trust.counts().connection(&peer);
        tokio::spawn(drive(conn, peer, chain, snapshots, end, cut, live));
        Ok(Arc::new(OpenConnection {
            address,
            send,
            authority: self.target.authority.clone(),
            record: Record::default(),
            last_words,
            ending,
            snapshot,
            in_flight: AtomicUsize::new(0),
        }))
    }
}

/// Spawns hyper's futures in boxes. Each is as large as the one of a whole connection, and spawning moves it several
/// times.
#[derive(Clone, Copy, Debug)]
struct BoxingExecutor;

impl<F> Executor<F> for BoxingExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Box::pin(future));
    }
}

/// An authenticated HTTP/2 connection. It ends when its last holder is gone, and each call on it is one.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub(crate) address: SocketAddr,
    pub(crate) authority: http::uri::Authority,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) record: Record,
    /// The server's last message before it closes the connection.
    pub(crate) last_words: LastWords,
    send: http2::SendRequest<Body>,
    ending: watch::Receiver<Ending>,
    in_flight: AtomicUsize,
}

/// Whether, and why, a connection is over.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Open,
    /// It was closed.
    Closed,
    /// The server's certificate is no longer accepted.
    Lost(Refusal),
}

impl OpenConnection {
    pub(crate) fn is_usable(&self) -> bool {
        self.send.is_ready() && matches!(*self.ending.borrow(), Ending::Open)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Why the server is no longer accepted, once it is not. Then the connection is cut, and its calls fail.
    pub(crate) fn lost(&self) -> Option<Refusal> {
        match &*self.ending.borrow() {
            Ending::Lost(refusal) => Some(refusal.clone()),
            Ending::Open | Ending::Closed => None,
        }
    }

    /// Resolves when no new call can be sent.
    pub(crate) async fn closed(&self) {
        // The sender is gone when the connection is.
        drop(
            self.ending
                .clone()
                .wait_for(|ending| !matches!(ending, Ending::Open))
                .await,
        );
    }

    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, InFlight), TrySendError<Request<Body>>> {
        let in_flight = InFlight::new(self.clone());
        let response = self.send.clone().try_send_request(request).await?;
        Ok((response, in_flight))
    }
}

/// A call's hold on its connection, from its start to the end of its response.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<OpenConnection>);

impl InFlight {
    fn new(connection: Arc<OpenConnection>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }

    pub(crate) fn connection(&self) -> &OpenConnection {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn drive<IO>(
    conn: http2::Connection<TokioIo<IO>, Body, BoxingExecutor>,
    server: Arc<Peer>,
    chain: Arc<[CertificateDer<'static>]>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    end: watch::Sender<Ending>,
    mut cut: oneshot::Sender<()>,
    live: CountedConnection,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut loss = pin!(lease::loss(Role::Server, &server, &chain, snapshots));
    let ending = tokio::select! {
        // The lease first: a lease lost during the handshake ends the connection before a call is sent.
        biased;
        refusal = &mut loss => Ending::Lost(refusal),
        closed = conn => {
            if let Err(error) = closed {
                let reason = ended(&error);
                debug!(peer.identity = %server, code = reason.code(), %reason, "{}", events::CONNECTION_ENDED);
            }
            Ending::Closed
        }
    };
    let is_lost = matches!(ending, Ending::Lost(_));
    live.end(match &ending {
        Ending::Lost(refusal) => refusal.code(),
        Ending::Open | Ending::Closed => "CLOSED",
    });
    end.send_replace(ending);
    if !is_lost {
        // Calls that continue after the server's GOAWAY still depend on the lease.
        tokio::select! {
            () = cut.closed() => return,
            refusal = loss => end.send_replace(Ending::Lost(refusal)),
        };
    }
    // After the reason is known: a call that fails asks for it. Without a receiver the connection has ended already.
    cut.send(()).ok();
}

/// Why a connection ended: its error may contain a TLS alert.
fn ended(error: &hyper::Error) -> HandshakeError {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = source {
        let io = error.downcast_ref::<io::Error>().or_else(|| {
            error
                .downcast_ref::<h2::Error>()
                .and_then(h2::Error::get_io)
        });
        if let Some(io) = io {
            return read_error(io);
        }
        source = error.source();
    }
    HandshakeError::Failed(error.to_string())
}
