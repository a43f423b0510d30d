//! Why a revocation list is refused.

use std::time::SystemTime;

use base::text::timestamp;

use crate::codes;

/// Why a revocation list is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCrl {
    /// It is not a CRL, or of a kind that is not supported: delta, indirect, partial reasons.
    #[error("not usable: {0}; a complete list of version 2 is needed")]
    Unsupported(String),
    /// It is of version 1, which can have no number.
    #[error(
        "it is of version 1, which has no number: issue it as version 2 with a CRL number (`crlnumber` in openssl's configuration)"
    )]
    Version1,
    /// It has no CRL number, so that an older list could not be told from a newer.
    #[error(
        "it has no CRL number (RFC 5280 §5.2.3): issue it with one (`crlnumber` in openssl's configuration)"
    )]
    NoNumber,
    /// It has no `nextUpdate`.
    #[error("it has no nextUpdate (RFC 5280 §5.1.2.5)")]
    NoNextUpdate,
    /// The issuer that it names did not sign it.
    #[error("{issuer} did not sign it: it is forged, damaged, or of another CA with that name")]
    BadSignature {
        /// The issuer, RFC 4514.
        issuer: String,
    },
    /// The certificate of the issuer may not sign lists.
    #[error(
        "{issuer} signed it, and its key usage lacks cRLSign: issue the CA a certificate with it"
    )]
    SignerUnfit {
        /// The issuer, RFC 4514.
        issuer: String,
    },
    /// Another list with the same number is in force (RFC 5280 §5.2.3).
    #[error(
        "its number {number} is that of the list in force for {issuer}, and its content is not: issue it with a higher number"
    )]
    SameNumber {
        /// The issuer, RFC 4514.
        issuer: String,
        /// The number of both.
        number: String,
    },
    /// A list of the same issuer that was issued later is in force.
    #[error("it was issued at {} and the list in force for {issuer} later, at {}", timestamp(*.this_update), timestamp(*.in_force))]
    IssuedEarlier {
        /// The issuer, RFC 4514.
        issuer: String,
        /// When this list was issued.
        this_update: SystemTime,
        /// When the list in force was.
        in_force: SystemTime,
    },
    /// It was issued in the future.
    #[error("it is of {issuer} and was issued at {}, which is in the future: is a clock wrong?", timestamp(*.this_update))]
    NotYetValid {
        /// The issuer, RFC 4514.
        issuer: String,
        /// When it says that it was issued.
        this_update: SystemTime,
    },
    /// A newer list of the same issuer is in force.
    #[error("its number {number} is older than the {in_force} in force for {issuer}")]
    Older {
        /// The issuer, RFC 4514.
        issuer: String,
        /// The number of this list.
        number: String,
        /// The number of the list in force.
        in_force: String,
    },
    /// The file holds two lists of one issuer with one scope.
    #[error("a second list of {issuer}: keep the newer one")]
    Duplicate {
        /// The issuer, RFC 4514.
        issuer: String,
    },
}

impl InvalidCrl {
    /// The stable name of this reason, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported(_) | Self::Version1 | Self::NoNumber | Self::NoNextUpdate => {
                codes::CRL_UNSUPPORTED
            }
            Self::BadSignature { .. } => codes::CRL_FORGED,
            Self::SignerUnfit { .. } => codes::CRL_SIGNER_UNFIT,
            Self::Older { .. } | Self::SameNumber { .. } | Self::IssuedEarlier { .. } => {
                codes::CRL_OLDER
            }
            Self::NotYetValid { .. } => codes::CRL_NOT_YET_VALID,
            Self::Duplicate { .. } => codes::CRL_DUPLICATE,
        }
    }
}
