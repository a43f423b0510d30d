//! What a revocation list says about itself, and whether it may take the place of another.
//!
//! Which certificates it revokes is webpki's business; the rules here are about the list (RFC 5280 §5).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::ParsedExtension;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::issuers::Issuers;
use crate::names::canonical;
use crate::text;
use crate::verify::Root;

/// The facts of one revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// Who issued it, RFC 4514.
    pub issuer: String,
    /// Its number (RFC 5280 §5.2.3).
    pub number: String,
    /// When it was issued.
    pub this_update: SystemTime,
    /// When a newer one is due. RFC 5280 requires it.
    pub next_update: SystemTime,
    /// How many certificates it revokes.
    pub revoked: usize,
    ordinal: BigUint,
    canonical_issuer: Vec<u8>,
    scope: Option<Vec<u8>>,
    /// The roots that its issuer stands under, as far as the credentials show.
    roots: Vec<CertificateDer<'static>>,
}

/// Why a revocation list is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCrl {
    /// It is no CRL, or of a kind that is not supported: delta, indirect, partial reasons.
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
                "CRL_UNSUPPORTED"
            }
            Self::BadSignature { .. } => "CRL_FORGED",
            Self::Older { .. } => "CRL_OLDER",
            Self::Duplicate { .. } => "CRL_DUPLICATE",
        }
    }
}

impl CrlFacts {
    /// Reads a list, and checks its signature when the certificate of its issuer is among `issuers`. That of another
    /// issuer is checked whenever the list is used.
    pub(crate) fn read(
        der: &CertificateRevocationListDer<'_>,
        issuers: &Issuers<'_>,
    ) -> Result<(Self, CertRevocationList<'static>), InvalidCrl> {
        let (_, crl) = CertificateRevocationList::from_der(der)
            .map_err(|e| InvalidCrl::Unsupported(e.to_string()))?;
        // RFC 5280 §5.1.2.1: the field is there, with the value 1, in version 2 alone.
        if crl.version().is_none() {
            return Err(InvalidCrl::Version1);
        }
        let ordinal = number(&crl).ok_or(InvalidCrl::NoNumber)?;
        let next_update = crl.next_update().ok_or(InvalidCrl::NoNextUpdate)?;
        let list = OwnedCertRevocationList::from_der(der)
            .map(CertRevocationList::from)
            .map_err(|e| InvalidCrl::Unsupported(text::of_webpki(&e)))?;
        let raw_issuer = crl.issuer().as_raw();
        let issuer = identity::distinguished_name(raw_issuer)
            .map_err(|e| InvalidCrl::Unsupported(e.to_string()))?;
        let namesakes: Vec<_> = issuers.named(raw_issuer).collect();
        let signers: Vec<_> = namesakes
            .iter()
            .filter(|issuer| issuer.signed(crl.tbs_cert_list.as_ref(), &crl.signature_value))
            .collect();
        if signers.is_empty() && !namesakes.is_empty() {
            return Err(InvalidCrl::BadSignature { issuer });
        }
        let roots = signers
            .iter()
            .flat_map(|signer| issuers.roots_above(signer));
        let facts = Self {
            number: ordinal.to_string(),
            this_update: system_time(crl.last_update()),
            next_update: system_time(next_update),
            revoked: crl.iter_revoked_certificates().count(),
            ordinal,
            scope: list.issuing_distribution_point().map(<[u8]>::to_vec),
            roots: roots.collect(),
            issuer,
            canonical_issuer: canonical(raw_issuer),
        };
        Ok((facts, list))
    }

    pub(crate) fn covers_the_same_as(&self, other: &Self) -> bool {
        self.canonical_issuer == other.canonical_issuer && self.scope == other.scope
    }

    /// Takes the place of the list in force that it covers. None makes way for an older one, which may not name what
    /// was revoked since.
    pub(crate) fn replace(&mut self, in_force: &[Self]) -> Result<(), InvalidCrl> {
        let before = in_force.iter().find(|other| self.covers_the_same_as(other));
        let Some(before) = before else { return Ok(()) };
        if before.ordinal > self.ordinal {
            return Err(InvalidCrl::Older {
                issuer: self.issuer.clone(),
                number: self.number.clone(),
                in_force: before.number.clone(),
            });
        }
        if self.roots.is_empty() {
            // Its issuer is in no file any more, and stands where it stood.
            self.roots.clone_from(&before.roots);
        }
        Ok(())
    }

    /// Whether a set with these roots may do without this list: all that its issuer stood under are gone too.
    pub(crate) fn may_go(&self, roots: &[Root]) -> bool {
        let gone = |old: &CertificateDer<'_>| roots.iter().all(|root| root.der != *old);
        !self.roots.is_empty() && self.roots.iter().all(gone)
    }
}

fn number(crl: &CertificateRevocationList<'_>) -> Option<BigUint> {
    crl.extensions().iter().find_map(|extension| {
        if let ParsedExtension::CRLNumber(number) = extension.parsed_extension() {
            return Some(number.clone());
        }
        None
    })
}

pub(crate) fn system_time(at: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.timestamp().try_into().unwrap_or(0))
}
