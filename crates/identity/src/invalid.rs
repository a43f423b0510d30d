//! Why a verified path does not name a peer.

use crate::codes;
use crate::distinguished_name::InvalidName;
use crate::spiffe_id::InvalidSpiffeId;

/// A path that verifies, but whose leaf cannot identify a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeer {
    /// There is no certificate in the path.
    #[error("there is no certificate")]
    NoCertificate,
    /// A certificate of the path does not parse, or an extension of the leaf is malformed or repeated.
    #[error("certificate {position} of the path cannot be read: {reason}")]
    Unreadable {
        /// The place in the path; the leaf is 0.
        position: usize,
        /// The parser's reason.
        reason: String,
    },
    /// The leaf may sign certificates or revocation lists (X509-SVID §4.1 and §4.3).
    #[error(
        "the leaf is a CA certificate; issue a certificate without CA:TRUE, keyCertSign and cRLSign to the service"
    )]
    LeafIsCa,
    /// The leaf has a key usage without `digitalSignature`, which TLS 1.3 needs (RFC 8446 §4.4.2.2).
    #[error("the key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// The leaf lacks the extended key usage of its role.
    #[error("the certificate lacks the extended key usage {0}")]
    WrongPurpose(&'static str),
    /// The leaf has too many names.
    #[error("the certificate has {0} subject alternative names, more than {max}", max = crate::leaf::MAX_NAMES)]
    TooManyNames(usize),
    /// The leaf has neither a subject nor a subject alternative name that identifies a peer.
    #[error(
        "the certificate has no identity: its subject is empty, and it has no URI, DNS, IP or e-mail SAN"
    )]
    Nameless,
    /// A name is empty, too long, or has characters that its kind does not have (RFC 5280 §4.2.1.6).
    #[error("the {kind} name {name:?} is malformed: {reason}")]
    MalformedName {
        /// The kind of name: `URI`, `DNS`, `IP`, `e-mail` or `other`.
        kind: &'static str,
        /// The name, escaped.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A URI name begins like a SPIFFE ID and is not a valid one.
    #[error("the SPIFFE ID {id:?} is malformed: {source}")]
    MalformedSpiffeId {
        /// The name as it is in the certificate.
        id: String,
        /// The rule that it violates.
        source: InvalidSpiffeId,
    },
    /// Two names are SPIFFE IDs (X509-SVID §2).
    #[error("the certificate has two SPIFFE IDs, {0:?} and {1:?}")]
    TwoSpiffeIds(String, String),
    /// A SPIFFE ID stands beside another URI name (X509-SVID §2 and §5.2).
    #[error(
        "the certificate has the URI name {other:?} beside its SPIFFE ID {id:?}, which must be its only one"
    )]
    SpiffeIdNotAlone {
        /// The SPIFFE ID.
        id: String,
        /// The first other URI name.
        other: String,
    },
    /// The subject or the issuer cannot be written as text safely.
    #[error("the {whose} name is malformed: {source}")]
    MalformedDistinguishedName {
        /// `subject` or `issuer`.
        whose: &'static str,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// The subject has two common names; software disagrees on which one counts.
    #[error("the subject has {0} common names")]
    RepeatedCommonName(usize),
}

impl InvalidPeer {
    /// The stable name of this reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => codes::CERTIFICATE_MISSING,
            Self::Unreadable { .. } => codes::CERTIFICATE_MALFORMED,
            Self::LeafIsCa => codes::LEAF_IS_CA,
            Self::NoDigitalSignature | Self::WrongPurpose(_) => codes::WRONG_PURPOSE,
            Self::TooManyNames(_) => codes::TOO_MANY_NAMES,
            Self::Nameless => codes::NAMELESS,
            Self::MalformedName { .. } | Self::MalformedDistinguishedName { .. } => {
                codes::NAME_MALFORMED
            }
            Self::MalformedSpiffeId { .. } => codes::SPIFFE_ID_MALFORMED,
            Self::TwoSpiffeIds(..) | Self::SpiffeIdNotAlone { .. } => codes::SPIFFE_ID_AMBIGUOUS,
            Self::RepeatedCommonName(_) => codes::COMMON_NAME_AMBIGUOUS,
        }
    }
}
