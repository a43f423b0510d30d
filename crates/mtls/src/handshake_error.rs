//! Why a handshake failed, as an error with a stable code.

use std::io;

use rustls::{AlertDescription as Alert, Error as Tls, PeerIncompatible};

use crate::codes;
use crate::refusal::Refusal;

/// Why a handshake failed. [`HandshakeError::code`] is stable; the text is for people.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// We refused the other side's certificate.
    #[error("we refused its certificate: {0}")]
    Refused(#[from] Refusal),
    /// The other side refused our certificate, with this alert.
    #[error("it refused our certificate (TLS alert {})", alert_name(*.0))]
    RefusedByPeer(Alert),
    /// The other side does not speak TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// No common protocol: HTTP/2 was not negotiated by ALPN (RFC 7301).
    #[error("it did not negotiate HTTP/2 (ALPN h2)")]
    NoHttp2,
    /// TLS 1.3 was not offered.
    #[error("it does not offer TLS 1.3")]
    TooOld,
    /// The other side closed the connection during the handshake.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// The deadline passed first.
    #[error("it did not complete the handshake in time")]
    TimedOut,
    /// It was silent, and a newer connection needed its place.
    #[error("its socket was closed for a newer one, because its address had the most sockets")]
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
            Self::RefusedByPeer(_) => codes::REFUSED_BY_PEER,
            Self::NotTls => codes::NOT_TLS,
            Self::NoHttp2 => codes::NO_HTTP2,
            Self::TooOld => codes::NO_TLS13,
            Self::Closed => codes::HANDSHAKE_CLOSED,
            Self::TimedOut => codes::HANDSHAKE_TIMEOUT,
            Self::Evicted => codes::EVICTED,
            Self::Failed(_) => codes::HANDSHAKE_FAILED,
        }
    }
}

/// Why the handshake failed, by the error of a stream.
pub(crate) fn read_error(error: &io::Error) -> HandshakeError {
    let tls = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<Tls>());
    match tls {
        Some(Tls::AlertReceived(alert)) if is_refusal(*alert) => {
            HandshakeError::RefusedByPeer(*alert)
        }
        Some(Tls::NoApplicationProtocol | Tls::AlertReceived(Alert::NoApplicationProtocol)) => {
            HandshakeError::NoHttp2
        }
        Some(Tls::AlertReceived(Alert::ProtocolVersion)) => HandshakeError::TooOld,
        Some(Tls::InvalidMessage(_)) => HandshakeError::NotTls,
        Some(Tls::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls12NotOffered,
        )) => HandshakeError::TooOld,
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

/// The alerts that are about our certificate (RFC 8446 §6.2), and what a server means by each.
const REFUSALS: [(Alert, &str); 9] = [
    (Alert::CertificateRequired, "it requires one and got none"),
    (
        Alert::UnknownCA,
        "it does not know our CA, or our intermediate is missing",
    ),
    (
        Alert::CertificateExpired,
        "it is expired, or not valid yet, by the server's clock",
    ),
    (Alert::CertificateRevoked, "it is revoked"),
    (
        Alert::UnsupportedCertificate,
        "it is not meant for a client, or its key is of a kind that is not accepted",
    ),
    (Alert::DecryptError, "another CA of the same name signed it"),
    (
        Alert::AccessDenied,
        "it has no name that the server accepts",
    ),
    (
        Alert::BadCertificate,
        "it is malformed or badly signed, or not valid yet by the server's clock",
    ),
    (Alert::CertificateUnknown, "it gave no reason"),
];

fn is_refusal(alert: Alert) -> bool {
    REFUSALS.iter().any(|(known, _)| *known == alert)
}

/// The alert as RFC 8446 spells it, with its number, and what a server means by it.
fn alert_name(alert: Alert) -> String {
    let meaning = REFUSALS.iter().find(|(known, _)| *known == alert);
    let meaning = meaning.map_or("it gave no reason", |(_, meaning)| meaning);
    format!("{} {alert:?}: {meaning}", u8::from(alert))
}
