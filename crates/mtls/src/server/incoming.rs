//! Connections for another server: accepted, authenticated and limited as by [`crate::serve`], and cut when they lose
//! their lease.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use identity::{Peer, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tracing::info;

use crate::counts::CountedConnection;
use crate::events;
use crate::handshake::Authenticated;
use crate::lease;
use crate::refusal::Refusal;
use crate::server::admission::Admitted;
use crate::server::limits::Limits;
use crate::server::port::Port;
use crate::server::serve;
use crate::trust::live::Trust;

/// Accepts connections for another server: with the feature `tonic-server` it is the stream that
/// `tonic::transport::Server::serve_with_incoming` takes, and with the feature `axum` a listener of `axum::serve`.
///
/// It applies those [`Limits`] that are about connections: the handshake's deadline, and the limits on connections in
/// all, of one peer, and of unauthenticated sockets. Handshakes run concurrently; refusals are logged and counted. Only
/// HTTP/2 is accepted.
///
/// What differs from [`crate::serve`]:
/// - A connection that loses its lease is cut at once. The calls on it end with a reset or an I/O error, which
///   clients see as UNAVAILABLE, UNKNOWN or INTERNAL, and not with a status that gives the reason. The reason is in the
///   log.
/// - The deadlines, limits and keep-alive of HTTP/2 are those of the other server: see the `http2_*` and
///   `max_connection_age` settings of tonic's. The age of a connection is not limited here, and a peer that has proved
///   who it is may be silent.
/// - The other server decides when and how it drains. Dropping this closes the port and ends the handshakes that run;
///   connections that were handed out go on.
#[derive(Debug)]
pub struct Incoming {
    authenticated: mpsc::Receiver<PeerStream>,
    address: SocketAddr,
}

impl Incoming {
    /// Begins to accept on `listener`. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The system does not tell the address of the listener.
    pub fn new(listener: TcpListener, trust: Trust, limits: Limits) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // One that waits to be taken; the others wait in their tasks, and hold their place among the connections.
        let (hand_out, authenticated) = mpsc::channel(1);
        tokio::spawn(accept(listener, trust, limits, hand_out));
        Ok(Self {
            authenticated,
            address,
        })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection with an authenticated peer.
    pub async fn accept(&mut self) -> PeerStream {
        match self.authenticated.recv().await {
            Some(stream) => stream,
            // The task that accepts goes on for as long as this lives, unless the runtime ends.
            None => std::future::pending().await,
        }
    }
}

async fn accept(
    listener: TcpListener,
    trust: Trust,
    limits: Limits,
    hand_out: mpsc::Sender<PeerStream>,
) {
    // The server that takes the connections drains, not this port.
    let (port, _drain) = Port::new(trust, limits, ());
    let port = Arc::new(port);
    let mut handshakes = JoinSet::new();
    let hand_out_one = |tcp, address, permit| {
        let (port, hand_out) = (port.clone(), hand_out.clone());
        async move {
            if let Some(stream) = authenticate(&port, tcp, address, permit).await {
                // The receiver of connections is gone, so this one is dropped too.
                drop(hand_out.send(stream).await);
            }
        }
    };
    serve::accept(
        listener,
        &port,
        &mut handshakes,
        hand_out.closed(),
        hand_out_one,
    )
    .await;
}

async fn authenticate(
    port: &Port<()>,
    tcp: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
) -> Option<PeerStream> {
    let (authenticated, snapshots, admitted) = serve::admit(port, tcp, address).await?;
    let Authenticated {
        stream,
        peer,
        chain,
    } = authenticated;
    let live = port.trust.counts().connection(&peer);
    let judged = peer.clone();
    let loss = Box::pin(async move { lease::loss(Role::Client, &judged, &chain, snapshots).await });
    Some(PeerStream {
        stream,
        peer,
        address,
        authority: AuthorityOf::Valid(loss),
        live: Some(live),
        _admitted: admitted,
        _permit: permit,
    })
}

/// A connection with an authenticated peer. It fails when its lease is lost.
pub struct PeerStream {
    stream: Box<TlsStream<TcpStream>>,
    peer: Arc<Peer>,
    address: SocketAddr,
    authority: AuthorityOf,
    live: Option<CountedConnection>,
    _admitted: Admitted,
    _permit: OwnedSemaphorePermit,
}

enum AuthorityOf {
    Valid(Pin<Box<dyn Future<Output = Refusal> + Send>>),
    Lost(Refusal),
}

impl PeerStream {
    /// The peer.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The address that it connects from, which is not an identity.
    pub fn remote_addr(&self) -> SocketAddr {
        self.address
    }

    /// Fails once the lease is lost; otherwise wakes the task when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let refusal = match &mut self.authority {
            AuthorityOf::Lost(refusal) => refusal.clone(),
            AuthorityOf::Valid(loss) => match loss.as_mut().poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(refusal) => {
                    info!(peer.address = %self.address, peer.identity = %self.peer, code = refusal.code(), reason = %refusal, "{}", events::LEASE_LOST);
                    if let Some(live) = self.live.take() {
                        live.end(refusal.code());
                    }
                    self.authority = AuthorityOf::Lost(refusal.clone());
                    refusal
                }
            },
        };
        let text = format!("the certificate of this connection is no longer accepted: {refusal}");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, text))
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            live.end("CLOSED");
        }
    }
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream")
            .field("peer", &self.peer)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(feature = "tonic-server")]
mod tonic_server {
    use super::*;

    /// Each request of the connection carries the `Arc<Peer>` in its extensions.
    impl tonic::transport::server::Connected for PeerStream {
        type ConnectInfo = Arc<Peer>;

        fn connect_info(&self) -> Arc<Peer> {
            self.peer.clone()
        }
    }

    impl tonic::codegen::tokio_stream::Stream for Incoming {
        type Item = io::Result<PeerStream>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.authenticated.poll_recv(cx).map(|next| next.map(Ok))
        }
    }
}

#[cfg(feature = "axum")]
mod axum_server {
    use std::convert::Infallible;
    use std::future::{Ready, ready};

    use axum::Extension;
    use axum::extract::connect_info::Connected;
    use axum::middleware::AddExtension;
    use axum::serve::{IncomingStream, Listener};
    use tower::{Layer as _, Service};

    use super::*;

    impl Listener for Incoming {
        type Io = PeerStream;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (PeerStream, SocketAddr) {
            let stream = Self::accept(self).await;
            let address = stream.remote_addr();
            (stream, address)
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.address)
        }
    }

    /// The peer of an axum connection, for `ConnectInfo<ConnectedPeer>`.
    #[derive(Clone, Debug)]
    pub struct ConnectedPeer(
        /// The peer.
        pub Arc<Peer>,
    );

    impl Connected<IncomingStream<'_, Incoming>> for ConnectedPeer {
        fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
            Self(stream.io().peer.clone())
        }
    }

    /// What `axum::serve` takes besides [`Incoming`]: `service`, whose every request carries the `Arc<Peer>` of its
    /// connection in its extensions, where the policy's layer and `Extension<Arc<Peer>>` find it.
    pub fn with_peer<S>(service: S) -> WithPeer<S> {
        WithPeer { service }
    }

    /// The service of [`with_peer`], of which each connection gets one.
    #[derive(Clone, Debug)]
    pub struct WithPeer<S> {
        service: S,
    }

    impl<S: Clone> Service<IncomingStream<'_, Incoming>> for WithPeer<S> {
        type Response = AddExtension<S, Arc<Peer>>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, stream: IncomingStream<'_, Incoming>) -> Self::Future {
            let peer = stream.io().peer.clone();
            ready(Ok(Extension(peer).layer(self.service.clone())))
        }
    }
}

#[cfg(feature = "axum")]
pub use axum_server::{ConnectedPeer, WithPeer, with_peer};
