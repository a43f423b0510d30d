//! One TLS handshake, on either side: the verifier decides about the chain, and the handshake keeps the verdict.
//!
//! All handshakes of a snapshot share one rustls configuration. It keeps nothing of them: no session is resumed past the
//! verifier, and a verdict is written to the handshake that asked for it and to nothing else. The caller retries and
//! logs.

use std::io;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, SystemTime};

use identity::{Peer, Role};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::crypto;
use crate::handshake_error::{HandshakeError, read_error};
use crate::presented::Presented;
use crate::refusal::Refusal;
use crate::rustls_verifier::Verifier;
use crate::trust::memo::Memo;
use crate::trust::server_identity::ServerIdentity;
use crate::trust::snapshot::Snapshot;
use crate::trust::verify::Authorities;

/// How long, and how much, a refused peer may still send before its socket is closed.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// How long we wait for the server's verdict or its first SETTINGS before we send anything. After that we send first: a
/// proxy may wait for us.
const VERDICT: Duration = Duration::from_millis(500);

/// How many chains of accepted peers are kept for sharing, and their maximum size.
const MAX_CHAINS: usize = 1024;
const MAX_SHARED: usize = 8 << 10;

/// A stream whose other side is authenticated.
pub(crate) struct Authenticated<S> {
    pub(crate) stream: S,
    pub(crate) peer: Arc<Peer>,
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
}

/// The server's side of a handshake on an accepted socket.
pub(crate) async fn accept(
    tcp: TcpStream,
    snapshot: &Snapshot,
    handshake: &Arc<Handshake>,
) -> Result<Authenticated<Box<server::TlsStream<TcpStream>>>, HandshakeError> {
    let config = server_config(snapshot).map_err(|e| HandshakeError::Failed(e.to_string()))?;
    let accepting = TlsAcceptor::from(config).accept(tcp).into_fallible();
    let stream = match CURRENT.scope(handshake.clone(), accepting).await {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            close_after_alert(tcp).await;
            return Err(handshake.explain(&error));
        }
    };
    let Accepted { peer, chain } = handshake.conclude(stream.get_ref().1)?;
    Ok(Authenticated {
        // Boxed: it lives as long as the connection, and is moved often.
        stream: Box::new(stream),
        peer,
        chain,
    })
}

/// What a client presents to a server that requests its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// The certificate of its snapshot.
    Certificate,
    /// No certificate. A Countersign server refuses that.
    Nothing,
}

/// The client's side of a handshake on a connected socket.
///
/// In TLS 1.3 the server decides about our certificate after the handshake, so we wait for its first byte before we
/// write: data that we sent could turn a readable alert into a reset.
pub(crate) async fn connect(
    tcp: TcpStream,
    sni: ServerName<'static>,
    expected: ServerIdentity,
    snapshot: &Snapshot,
    present: Present,
) -> Result<Authenticated<client::TlsStream<TcpStream>>, HandshakeError> {
    let handshake = Handshake::with(Some(expected));
    let config =
        client_config(snapshot, present).map_err(|e| HandshakeError::Failed(e.to_string()))?;
    let connecting = TlsConnector::from(config).connect(sni, tcp);
    let mut stream = CURRENT
        .scope(handshake.clone(), connecting)
        .await
        .map_err(|e| handshake.explain(&e))?;
    if let Ok(first) = timeout(VERDICT, stream.fill_buf()).await
        && first.map_err(|e| read_error(&e))?.is_empty()
    {
        return Err(HandshakeError::Closed);
    }
    let Accepted { peer, chain } = handshake.conclude(stream.get_ref().1)?;
    Ok(Authenticated {
        stream,
        peer,
        chain,
    })
}

/// Closes a socket so that the peer can read the alert: closing with unread data would reset the connection.
async fn close_after_alert(mut tcp: TcpStream) {
    let mut unread = [0; 1024];
    let linger = async {
        tcp.shutdown().await?;
        let mut left = LINGER_BYTES;
        while left > 0 {
            match tcp.read(&mut unread).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    // It does not matter whether the peer read the alert.
    drop(timeout(LINGER, linger).await);
}

tokio::task_local! {
    /// The handshake whose future is being polled. rustls calls the verifier only within that poll, so this is the
    /// handshake in which the certificate was presented.
    static CURRENT: Arc<Handshake>;
}

/// One handshake: whom it expects, and the verdict.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The server, if we are the client; if we are the server, any client.
    expected: Option<ServerIdentity>,
    verdict: OnceLock<Result<Accepted, Refusal>>,
    refused: OnceLock<Presented>,
}

/// The peer that was accepted in a handshake, and its chain.
#[derive(Clone, Debug)]
struct Accepted {
    peer: Arc<Peer>,
    chain: Arc<[CertificateDer<'static>]>,
}

impl Handshake {
    fn with(expected: Option<ServerIdentity>) -> Arc<Self> {
        Arc::new(Self {
            expected,
            verdict: OnceLock::new(),
            refused: OnceLock::new(),
        })
    }

    /// With a client, on the server's side.
    pub(crate) fn with_client() -> Arc<Self> {
        Self::with(None)
    }

    /// What the certificate of a client says that was refused.
    pub(crate) fn refused(&self) -> Option<&Presented> {
        self.refused.get()
    }

    fn verify(
        &self,
        authorities: &Authorities,
        chain: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let now = SystemTime::now();
        let verdict = match &self.expected {
            Some(server) => authorities.judge_server(server, chain, now),
            None => authorities.judge(Role::Client, chain, now),
        };
        if let (None, Err(_), [leaf, ..]) = (&self.expected, &verdict, chain) {
            self.refused.get_or_init(|| Presented::of(leaf));
        }
        let result = verdict.as_ref().map(drop).map_err(rustls::Error::from);
        let verdict = verdict.map(|peer| Accepted {
            chain: shared(&peer, chain),
            peer,
        });
        // A TLS 1.3 handshake has one chain (RFC 8446 §4.4.2). A second one is refused.
        self.verdict
            .set(verdict)
            .map_err(|_second| no_handshake())?;
        result
    }

    /// Why a handshake failed: our own verdict, or else the error.
    fn explain(&self, error: &io::Error) -> HandshakeError {
        if let Some(Err(refusal)) = self.verdict.get() {
            return HandshakeError::Refused(refusal.clone());
        }
        let tls = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::NoCertificatesPresented)) {
            return HandshakeError::Refused(Refusal::NoCertificate);
        }
        read_error(error)
    }

    /// The peer, if its chain was accepted in this handshake.
    fn conclude(&self, connection: &CommonState) -> Result<Accepted, HandshakeError> {
        // rustls accepts a peer that offers no ALPN.
        if connection.alpn_protocol() != Some(crypto::ALPN) {
            return Err(HandshakeError::NoHttp2);
        }
        match self.verdict.get() {
            // The chain that TLS reports must be the chain of the verdict.
            Some(Ok(accepted)) if connection.peer_certificates() == Some(&*accepted.chain) => {
                Ok(accepted.clone())
            }
            Some(Err(refusal)) => Err(HandshakeError::Refused(refusal.clone())),
            Some(Ok(_)) | None => Err(HandshakeError::Refused(Refusal::NoCertificate)),
        }
    }
}

/// The chain of an accepted peer. Connections with the same certificate share one copy.
fn shared(peer: &Peer, chain: &[CertificateDer<'_>]) -> Arc<[CertificateDer<'static>]> {
    static CHAINS: LazyLock<Memo<Arc<[CertificateDer<'static>]>>> =
        LazyLock::new(|| Memo::new(MAX_CHAINS));
    if let Some(same) = CHAINS.get(peer.fingerprint()).filter(|it| **it == *chain) {
        return same;
    }
    let owned: Arc<[_]> = chain.iter().map(|der| der.clone().into_owned()).collect();
    if chain.iter().map(|der| der.len()).sum::<usize>() <= MAX_SHARED {
        CHAINS.put(*peer.fingerprint(), owned.clone());
    }
    owned
}

fn server_config(snapshot: &Snapshot) -> Result<Arc<ServerConfig>, rustls::Error> {
    let made = &snapshot.made.server_config;
    if let Some(config) = made.get() {
        return Ok(config.clone());
    }
    let mut config = crypto::server_config(verifier(snapshot), snapshot.resolver())?;
    config.alpn_protocols = vec![crypto::ALPN.to_vec()];
    Ok(made.get_or_init(|| Arc::new(config)).clone())
}

fn client_config(
    snapshot: &Snapshot,
    present: Present,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let (own, made) = match present {
        Present::Certificate => (
            Some(snapshot.resolver() as _),
            Some(&snapshot.made.client_config),
        ),
        Present::Nothing => (None, None),
    };
    if let Some(config) = made.and_then(OnceLock::get) {
        return Ok(config.clone());
    }
    let mut config = crypto::client_config(verifier(snapshot), own)?;
    config.alpn_protocols = vec![crypto::ALPN.to_vec()];
    let config = Arc::new(config);
    Ok(match made {
        Some(made) => made.get_or_init(|| config).clone(),
        None => config,
    })
}

/// The verifier of all handshakes of one snapshot. It keeps no state.
fn verifier(snapshot: &Snapshot) -> Arc<Verifier> {
    let authorities = snapshot.authorities().clone();
    Verifier::new(authorities.subjects(), move |chain| {
        CURRENT
            .try_with(|handshake| handshake.verify(&authorities, chain))
            .unwrap_or_else(|_no_handshake| Err(no_handshake()))
    })
}

/// Outside of a handshake there is no place for a verdict, so the chain is refused.
fn no_handshake() -> rustls::Error {
    rustls::Error::General("no handshake is in progress that could keep the verdict".to_owned())
}
