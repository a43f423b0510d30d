//! One TLS handshake, on either side: its verifier judges the chain and keeps the verdict.
//!
//! The rustls configuration is made anew for every handshake, so no session is ever resumed past its verifier and no
//! two connections share more than the snapshot. Never a retry, never a log line: the caller knows the context.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use identity::{Peer, Role};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::crypto;
use crate::presented::Presented;
use crate::snapshot::Snapshot;
use crate::verify::{Authorities, Refusal, ServerIdentity};

/// How long, and how much, a refused peer may go on talking before its socket is closed.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 64 << 10;

/// How long a server may keep its verdict, or its first SETTINGS, to itself before we speak all the same: a proxy may
/// wait for us.
const VERDICT: Duration = Duration::from_millis(500);

/// A stream whose other side has proved who it is.
pub(crate) struct Authenticated<S> {
    pub(crate) stream: S,
    pub(crate) peer: Arc<Peer>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// Why a handshake came to nothing. [`HandshakeError::code`] is stable; the text is for people.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// We do not believe the other side's certificate.
    #[error("we refused its certificate: {0}")]
    Refused(#[from] Refusal),
    /// The other side does not believe ours, and said so by this alert.
    #[error("it refused our certificate (TLS alert {})", alert_name(*.0))]
    RefusedByPeer(AlertDescription),
    /// What arrived is not TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// No common protocol: HTTP/2 was not negotiated by ALPN (RFC 7301).
    #[error("it did not negotiate HTTP/2 (ALPN h2)")]
    NoHttp2,
    /// TLS 1.3 was not offered.
    #[error("it does not offer TLS 1.3")]
    TooOld,
    /// The other side went away during the handshake.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// The deadline passed first.
    #[error("it did not complete the handshake in time")]
    TimedOut,
    /// It was silent while newer sockets waited for its place.
    #[error("it was silent too long while others waited")]
    Evicted,
    /// Anything else that TLS or the socket reports.
    #[error("the handshake failed: {0}")]
    Failed(String),
}

impl HandshakeError {
    /// The stable name of this reason, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::RefusedByPeer(_) => "REFUSED_BY_PEER",
            Self::NotTls => "NOT_TLS",
            Self::NoHttp2 => "NO_HTTP2",
            Self::TooOld => "NO_TLS13",
            Self::Closed => "HANDSHAKE_CLOSED",
            Self::TimedOut => "HANDSHAKE_TIMEOUT",
            Self::Evicted => "EVICTED",
            Self::Failed(_) => "HANDSHAKE_FAILED",
        }
    }
}

/// The server's side of a handshake on an accepted socket. `refused` is told what a certificate says that was refused.
pub(crate) async fn accept(
    tcp: TcpStream,
    snapshot: &Snapshot,
    refused: &Arc<OnceLock<Presented>>,
) -> Result<Authenticated<server::TlsStream<TcpStream>>, HandshakeError> {
    let judge = Arc::new(Judge::new(
        snapshot.authorities().clone(),
        Side::Server(refused.clone()),
    ));
    let mut config: ServerConfig = crypto::server_config()
        .map_err(|e| HandshakeError::Failed(e.to_string()))?
        .with_client_cert_verifier(judge.clone())
        .with_cert_resolver(snapshot.resolver());
    config.alpn_protocols = vec![crypto::ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let stream = match TlsAcceptor::from(Arc::new(config))
        .accept(tcp)
        .into_fallible()
        .await
    {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            farewell(tcp).await;
            return Err(judge.explain(&error));
        }
    };
    let (_, connection) = stream.get_ref();
    judge
        .conclude(connection.alpn_protocol(), connection.peer_certificates())
        .map(|(peer, chain)| Authenticated {
            peer,
            chain,
            stream,
        })
}

/// What a client shows a server that asks for its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// The one of its snapshot.
    Certificate,
    /// None at all. No server of ours goes on then.
    Nothing,
}

/// The client's side of a handshake on a connected socket. `sni` is what the server is asked for by name.
///
/// In TLS 1.3 the server's verdict on our certificate comes after the handshake, so the first byte is waited for before
/// anything is written: what we wrote would turn a readable alert into a reset.
pub(crate) async fn connect(
    tcp: TcpStream,
    sni: ServerName<'static>,
    expected: ServerIdentity,
    snapshot: &Snapshot,
    present: Present,
) -> Result<Authenticated<client::TlsStream<TcpStream>>, HandshakeError> {
    let judge = Arc::new(Judge::new(
        snapshot.authorities().clone(),
        Side::Client(expected),
    ));
    let config = crypto::client_config()
        .map_err(|e| HandshakeError::Failed(e.to_string()))?
        .dangerous() // the verifier is ours, on purpose: it is the one in verify.rs
        .with_custom_certificate_verifier(judge.clone());
    let mut config: ClientConfig = match present {
        Present::Certificate => config.with_client_cert_resolver(snapshot.resolver()),
        Present::Nothing => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![crypto::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(sni, tcp)
        .await
        .map_err(|e| judge.explain(&e))?;
    if let Ok(first) = timeout(VERDICT, stream.fill_buf()).await
        && first.map_err(|e| read_error(&e))?.is_empty()
    {
        return Err(HandshakeError::Closed);
    }
    let (_, connection) = stream.get_ref();
    judge
        .conclude(connection.alpn_protocol(), connection.peer_certificates())
        .map(|(peer, chain)| Authenticated {
            peer,
            chain,
            stream,
        })
}

/// Closes a socket so that the alert on its way is read: closing over unread data would reset the connection.
async fn farewell(mut tcp: TcpStream) {
    let mut unread = [0; 1024];
    let linger = async {
        tcp.shutdown().await?;
        let mut left = FAREWELL_BYTES;
        while left > 0 {
            match tcp.read(&mut unread).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    // Whether the peer heard us is its affair.
    drop(timeout(FAREWELL, linger).await);
}

/// What an error of an established stream says about the handshake before it.
pub(crate) fn read_error(error: &io::Error) -> HandshakeError {
    let tls = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(alert)) if is_refusal(*alert) => {
            HandshakeError::RefusedByPeer(*alert)
        }
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            HandshakeError::NoHttp2
        }
        Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
            HandshakeError::TooOld
        }
        Some(rustls::Error::InvalidMessage(_)) => HandshakeError::NotTls,
        Some(rustls::Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls12NotOffered,
        )) => HandshakeError::TooOld,
        Some(rustls::Error::NoApplicationProtocol) => HandshakeError::NoHttp2,
        Some(other) => HandshakeError::Failed(other.to_string()),
        None if closed(error.kind()) => HandshakeError::Closed,
        None => HandshakeError::Failed(error.to_string()),
    }
}

fn closed(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// The alerts by which a server says that it is our certificate (RFC 8446 §6.2).
fn is_refusal(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
            | AlertDescription::DecryptError
    )
}

const MEANINGS: [(AlertDescription, &str); 8] = [
    (
        AlertDescription::CertificateRequired,
        "it wants one and got none",
    ),
    (
        AlertDescription::UnknownCA,
        "it does not know our CA, or our intermediate is missing",
    ),
    (
        AlertDescription::CertificateExpired,
        "it is expired, or not valid yet, by the server's clock",
    ),
    (AlertDescription::CertificateRevoked, "it is revoked"),
    (
        AlertDescription::UnsupportedCertificate,
        "it is not meant for a client, or its key is of a kind that is not accepted",
    ),
    (
        AlertDescription::DecryptError,
        "another CA of the same name signed it",
    ),
    (
        AlertDescription::AccessDenied,
        "it names nobody that the server can accept",
    ),
    (
        AlertDescription::BadCertificate,
        "it is malformed or badly signed, or not valid yet by the server's clock",
    ),
];

/// The alert as RFC 8446 spells it, with its number, and what a server means by it.
fn alert_name(alert: AlertDescription) -> String {
    let meaning = MEANINGS.iter().find(|(known, _)| *known == alert);
    let meaning = meaning.map_or("it gave no reason", |(_, meaning)| meaning);
    format!("{} {alert:?}: {meaning}", u8::from(alert))
}

#[derive(Debug)]
enum Side {
    /// We are the server and judge a client.
    Server(Arc<OnceLock<Presented>>),
    /// We are the client and judge the server that we expect.
    Client(ServerIdentity),
}

/// The verifier of one handshake.
#[derive(Debug)]
struct Judge {
    authorities: Arc<Authorities>,
    subjects: Vec<DistinguishedName>,
    side: Side,
    verdict: OnceLock<Result<Arc<Peer>, Refusal>>,
}

impl Judge {
    fn new(authorities: Arc<Authorities>, side: Side) -> Self {
        let subjects = authorities.subjects();
        Self {
            authorities,
            subjects,
            side,
            verdict: OnceLock::new(),
        }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let mut chain = vec![leaf.clone()];
        chain.extend_from_slice(intermediates);
        let now = SystemTime::now();
        let verdict = match &self.side {
            Side::Server(_) => self.authorities.judge(Role::Client, &chain, now),
            Side::Client(expected) => self.authorities.judge_server(expected, &chain, now),
        };
        if let (Side::Server(refused), Err(_)) = (&self.side, &verdict) {
            refused.get_or_init(|| Presented::of(leaf));
        }
        let result = verdict.as_ref().map(drop).map_err(rustls::Error::from);
        self.verdict.get_or_init(|| verdict.map(Arc::new));
        result
    }

    /// What our own verdict, or else the error, says about a failed handshake.
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

    fn conclude(
        &self,
        alpn: Option<&[u8]>,
        chain: Option<&[CertificateDer<'static>]>,
    ) -> Result<(Arc<Peer>, Vec<CertificateDer<'static>>), HandshakeError> {
        // rustls lets a peer through that offers no ALPN at all.
        if alpn != Some(crypto::ALPN) {
            return Err(HandshakeError::NoHttp2);
        }
        match (self.verdict.get(), chain) {
            (Some(Ok(peer)), Some(chain)) => Ok((peer.clone(), chain.to_vec())),
            (Some(Err(refusal)), _) => Err(HandshakeError::Refused(refusal.clone())),
            (Some(Ok(_)), None) | (None, _) => Err(HandshakeError::Refused(Refusal::NoCertificate)),
        }
    }

    fn signature(
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, crypto::signature_algorithms())
    }
}

/// TLS 1.2 is never negotiated; should it be, nothing verifies.
fn no_tls12() -> rustls::Error {
    PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into()
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(leaf, intermediates)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::signature_algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, intermediates)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::signature_algorithms().supported_schemes()
    }
}
