//! Why a chain is refused, for logs, for statuses and as a TLS alert.

use std::time::SystemTime;

use base::text::timestamp;
use identity::InvalidPeer;
use rustls::CertificateError;

use crate::codes;
use crate::trust::root::{MAX_CHAIN, MAX_NAMESAKES};

/// Why a chain was refused. [`Refusal::code`] is stable; the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No certificate was presented.
    #[error("no certificate was presented")]
    NoCertificate,
    /// The chain has too many certificates.
    #[error("the chain has {0} certificates; at most {MAX_CHAIN} are allowed")]
    ChainTooLong(usize),
    /// The chain has too many certificates of one subject.
    #[error("more than {MAX_NAMESAKES} certificates of the chain share one subject")]
    ChainAmbiguous,
    /// A certificate of the path is past its `notAfter`.
    #[error("the certificate expired at {}", timestamp(*.not_after))]
    Expired {
        /// The end of its validity.
        not_after: SystemTime,
    },
    /// A certificate of the path is before its `notBefore`.
    #[error("the certificate is not valid before {}; is a clock wrong?", timestamp(*.not_before))]
    NotYetValid {
        /// The start of its validity.
        not_before: SystemTime,
    },
    /// No path leads from the leaf to a configured root.
    #[error(
        "no path leads to a trusted root: unknown issuer, or an intermediate certificate is missing"
    )]
    UnknownIssuer,
    /// It has no SPIFFE ID, and the roots are those of trust domains.
    #[error(
        "the certificate is not an X509-SVID, because a SPIFFE ID is not its only URI SAN, so no trust domain vouches for it"
    )]
    NoSpiffeId,
    /// Its SPIFFE ID is of a trust domain whose bundle is not here.
    #[error(
        "its SPIFFE ID belongs to the trust domain {0}, whose bundle we do not have: federate with it"
    )]
    UnknownTrustDomain(String),
    /// It was signed by a root of another trust domain.
    #[error(
        "its SPIFFE ID belongs to the trust domain {domain}, but its root to {signer}, which can vouch only for its own IDs"
    )]
    ForeignRoot {
        /// The trust domain of the SPIFFE ID.
        domain: String,
        /// The trust domain of the root.
        signer: String,
    },
    /// A signature of the path does not verify, as when two CAs share a name.
    #[error("a signature in the chain does not verify")]
    BadSignature,
    /// A revocation list names a certificate of the path.
    #[error("the certificate is revoked")]
    Revoked,
    /// The revocation list of the issuer is past its `nextUpdate` and
    /// [`ExpiredCrls::Refuse`](crate::ExpiredCrls::Refuse) is set.
    #[error("the revocation list of the issuer expired at {}", timestamp(*.next_update))]
    CrlExpired {
        /// When a new list was due.
        next_update: SystemTime,
    },
    /// The revocation list of the issuer cannot be used, so the status is unknown.
    #[error("the revocation status is unknown: {0}")]
    RevocationUnknown(String),
    /// The certificate is for the other role.
    #[error("the certificate lacks the extended key usage {0}")]
    WrongPurpose(&'static str),
    /// The server is expected by name and has no subjectAltName.
    #[error(
        "the server should be {expected}, but its certificate has no subjectAltName; a common name does not count"
    )]
    NoAlternativeName {
        /// The expected identity.
        expected: String,
    },
    /// The server has another identity.
    #[error("the server is not {expected}: its certificate names {presented}")]
    WrongServer {
        /// The expected identity.
        expected: String,
        /// The names in its certificate.
        presented: String,
    },
    /// The path verifies, but the leaf cannot name a peer.
    #[error(transparent)]
    InvalidPeer(#[from] InvalidPeer),
    /// The leaf's key cannot be used in a handshake.
    #[error("the key of the certificate is not accepted: {0}")]
    UnusableKey(String),
    /// The refusal is about a certificate other than the leaf.
    #[error("{place}: {refusal}")]
    At {
        /// Which certificate: its position or `the root`, and its subject.
        place: String,
        /// What is wrong with it.
        refusal: Box<Self>,
    },
    /// A certificate does not parse, or violates RFC 5280.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
}

impl Refusal {
    /// The reason, without the certificate that it is about.
    pub fn cause(&self) -> &Self {
        if let Self::At { refusal, .. } = self {
            return refusal.cause();
        }
        self
    }

    /// The stable name of this reason, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        self.names().0
    }

    /// The stable name of this reason, and its name in TLS, which says to the peer what RFC 8446 §6.2 has an alert for.
    fn names(&self) -> (&'static str, CertificateError) {
        use CertificateError as Tls;
        match self {
            Self::At { refusal, .. } => refusal.names(),
            Self::NoCertificate => (codes::CERTIFICATE_MISSING, Tls::BadEncoding),
            Self::ChainTooLong(_) | Self::ChainAmbiguous => {
                (codes::CHAIN_TOO_LONG, Tls::BadEncoding)
            }
            Self::Expired { .. } => (codes::CERTIFICATE_EXPIRED, Tls::Expired),
            Self::NotYetValid { .. } => (codes::CERTIFICATE_NOT_YET_VALID, Tls::NotValidYet),
            Self::UnknownIssuer => (codes::UNKNOWN_ISSUER, Tls::UnknownIssuer),
            Self::NoSpiffeId => (
                codes::SPIFFE_ID_MISSING,
                Tls::ApplicationVerificationFailure,
            ),
            Self::UnknownTrustDomain(_) => (codes::TRUST_DOMAIN_UNKNOWN, Tls::UnknownIssuer),
            Self::ForeignRoot { .. } => (codes::TRUST_DOMAIN_MISMATCH, Tls::UnknownIssuer),
            Self::BadSignature => (codes::BAD_SIGNATURE, Tls::BadSignature),
            Self::Revoked => (codes::CERTIFICATE_REVOKED, Tls::Revoked),
            Self::CrlExpired { .. } => (codes::CRL_EXPIRED, Tls::ExpiredRevocationList),
            Self::RevocationUnknown(_) => (codes::REVOCATION_UNKNOWN, Tls::UnknownRevocationStatus),
            Self::WrongPurpose(_) => (codes::WRONG_PURPOSE, Tls::InvalidPurpose),
            Self::NoAlternativeName { .. } => (codes::NO_SUBJECT_ALT_NAME, Tls::NotValidForName),
            Self::WrongServer { .. } => (codes::WRONG_SERVER, Tls::NotValidForName),
            Self::InvalidPeer(
                invalid @ (InvalidPeer::WrongPurpose(_)
                | InvalidPeer::NoDigitalSignature
                | InvalidPeer::LeafIsCa),
            ) => (invalid.code(), Tls::InvalidPurpose),
            Self::InvalidPeer(invalid) => (invalid.code(), Tls::ApplicationVerificationFailure),
            Self::UnusableKey(_) => (codes::KEY_NOT_ACCEPTED, Tls::InvalidPurpose),
            Self::Malformed(_) => (codes::CERTIFICATE_MALFORMED, Tls::BadEncoding),
        }
    }
}

/// The TLS alert for the peer.
impl From<&Refusal> for rustls::Error {
    fn from(refusal: &Refusal) -> Self {
        if *refusal.cause() == Refusal::NoCertificate {
            return Self::NoCertificatesPresented;
        }
        Self::InvalidCertificate(refusal.names().1)
    }
}
