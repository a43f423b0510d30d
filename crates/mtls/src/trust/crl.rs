//! Facts about a revocation list, and whether it may replace another. The rules here are about the list itself (RFC 5280
//! §5); webpki decides which certificates it revokes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::text::timestamp;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::ParsedExtension;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::codes;
use crate::crypto::{self, Digest};
use crate::text;
use crate::trust::invalid::InvalidCredentials;
use crate::trust::issuers::{Issuer, Issuers};
use crate::trust::names::canonical;

/// How far the clock of an issuer may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A message that is longer cannot be of a certificate that a peer presented: TLS takes no longer one (RFC 8446 §5.1).
const MAX_PRESENTED: usize = 64 << 10;

/// For how many keys it is remembered whether they signed a list. An issuer has one or two.
const MAX_KEYS: usize = 16;

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
    pub(crate) ordinal: BigUint,
    pub(crate) raw_issuer: Vec<u8>,
    pub(crate) canonical_issuer: Vec<u8>,
    pub(crate) scope: Option<Vec<u8>>,
}

impl CrlFacts {
    pub(crate) fn covers_the_same_as(&self, other: &Self) -> bool {
        self.canonical_issuer == other.canonical_issuer && self.scope == other.scope
    }
}

/// A revocation list with what proves it.
#[derive(Debug)]
pub(crate) struct RevocationList {
    pub(crate) facts: CrlFacts,
    pub(crate) crl: CertRevocationList<'static>,
    /// A digest of the bytes, so that unchanged content is not parsed again.
    pub(crate) content: Digest,
    /// The signed part, and its signature.
    signed: Vec<u8>,
    pub(crate) signed_digest: Digest,
    signed_at: OnceLock<usize>,
    signature: Vec<u8>,
    /// Results by key, so that a large list is verified once per key.
    keys: Mutex<HashMap<Digest, bool>>,
}

impl RevocationList {
    /// Reads a list, without verifying its signature.
    pub(crate) fn read(der: &CertificateRevocationListDer<'_>) -> Result<Self, InvalidCredentials> {
        let (_, crl) = CertificateRevocationList::from_der(der).map_err(|e| not_usable(&e))?;
        // RFC 5280 §5.1.2.1: the field is there, with the value 1, in version 2 alone.
        if crl.version().is_none() {
            return Err(unsupported(
                "it is of version 1, which has no number: issue it as version 2 with a CRL number (`crlnumber` in openssl's \
                 configuration)",
            ));
        }
        let ordinal = number(&crl).ok_or_else(|| {
            unsupported(
                "it has no CRL number (RFC 5280 §5.2.3): issue it with one (`crlnumber` in openssl's configuration)",
            )
        })?;
        let next_update = crl
            .next_update()
            .ok_or_else(|| unsupported("it has no nextUpdate (RFC 5280 §5.1.2.5)"))?;
        let list = OwnedCertRevocationList::from_der(der)
            .map(CertRevocationList::from)
            .map_err(|e| not_usable(&text::of_webpki(&e)))?;
        let raw_issuer = crl.issuer().as_raw().to_vec();
        let facts = CrlFacts {
            issuer: identity::distinguished_name(&raw_issuer).map_err(|e| not_usable(&e))?,
            number: ordinal.to_string(),
            this_update: system_time(crl.last_update()),
            next_update: system_time(next_update),
            revoked: crl.iter_revoked_certificates().count(),
            ordinal,
            scope: list.issuing_distribution_point().map(<[u8]>::to_vec),
            canonical_issuer: canonical(&raw_issuer),
            raw_issuer,
        };
        Ok(Self {
            facts,
            crl: list,
            content: crypto::digest([der.as_ref()]),
            signed: crl.tbs_cert_list.as_ref().to_vec(),
            signed_digest: crypto::digest([crl.tbs_cert_list.as_ref()]),
            signed_at: OnceLock::new(),
            signature: crl.signature_value.data.to_vec(),
            keys: Mutex::default(),
        })
    }

    /// The roots above those of `issuers` that signed it. `None` when its issuer is not among them, so it is unknown
    /// who signed it.
    pub(crate) fn proven(
        &self,
        issuers: &Issuers<'_>,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, InvalidCredentials> {
        let issuer = &self.facts.issuer;
        let namesakes: Vec<_> = issuers.named(&self.facts.raw_issuer).collect();
        if namesakes.is_empty() {
            return Ok(None);
        }
        let signers: Vec<_> = namesakes
            .into_iter()
            .filter(|namesake| self.is_signed_by(namesake))
            .collect();
        if signers.is_empty() {
            let text = format!(
                "{issuer} did not sign it: it is forged, damaged, or of another CA with that name"
            );
            return Err(InvalidCredentials::new(codes::CRL_FORGED, text));
        }
        if !signers.iter().any(|signer| signer.may_sign_lists()) {
            let text = format!(
                "{issuer} signed it, but the key usage of that CA lacks cRLSign: issue the CA a certificate with cRLSign"
            );
            return Err(InvalidCredentials::new(codes::CRL_SIGNER_UNFIT, text));
        }
        let mut roots = Vec::new();
        for root in signers.iter().flat_map(|it| issuers.roots_above(it)) {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Ok(Some(roots))
    }

    /// Whether the key of `issuer` signed it.
    pub(crate) fn is_signed_by(&self, issuer: &Issuer<'_>) -> bool {
        let key = crypto::digest([issuer.key()]);
        let known = |keys: &HashMap<Digest, bool>| keys.get(&key).copied();
        if let Some(known) = known(&self.keys.lock().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let signed = issuer.signed(&self.signed, &self.signature);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < MAX_KEYS {
            keys.insert(key, signed);
        }
        signed
    }

    /// Whether `message` is the signed part of this list, at the address where `crl` keeps it. The list owns that
    /// memory and never changes it.
    pub(crate) fn holds(&self, message: &[u8]) -> bool {
        self.is_as_long_as(message) && self.signed_at.get() == Some(&message.as_ptr().addr())
    }

    pub(crate) fn is_as_long_as(&self, message: &[u8]) -> bool {
        self.signed.len() == message.len()
    }

    /// Tells a long list where `crl` keeps what was signed, which webpki shows only when it asks for a check. The
    /// caller knows that no other list in use is as long, so that the message is of this one if it has its bytes.
    pub(crate) fn found_at(&self, message: &[u8], digest: &Digest) {
        if message.len() > MAX_PRESENTED && self.signed_digest == *digest {
            self.signed_at.get_or_init(|| message.as_ptr().addr());
        }
    }

    /// Refuses an older list in place of a newer one: it may not name what was revoked since (RFC 5280 §5.2.3).
    pub(crate) fn may_replace(&self, before: &Self) -> Result<(), InvalidCredentials> {
        let (new, old) = (&self.facts, &before.facts);
        let (issuer, number) = (&new.issuer, &new.number);
        let text = if old.ordinal > new.ordinal {
            let in_force = &old.number;
            format!("its number {number} is lower than {in_force}, the number in use for {issuer}")
        // One content may have several signatures.
        } else if old.ordinal == new.ordinal && before.signed != self.signed {
            format!(
                "it has the number {number} of the list in use for {issuer}, but different content: issue it with a higher number"
            )
        } else if old.this_update > new.this_update {
            let (at, later) = (timestamp(new.this_update), timestamp(old.this_update));
            format!("it was issued at {at}, before the list in use for {issuer}, at {later}")
        } else {
            return Ok(());
        };
        Err(InvalidCredentials::new(codes::CRL_OLDER, text))
    }

    /// Refuses a list from the future: nothing could replace it until then.
    pub(crate) fn is_issued(&self, now: SystemTime) -> Result<(), InvalidCredentials> {
        if self.facts.this_update > now + CLOCK_SKEW {
            let (issuer, at) = (&self.facts.issuer, timestamp(self.facts.this_update));
            let text = format!(
                "the list of {issuer} was issued at {at}, which is in the future: is a clock wrong?"
            );
            return Err(InvalidCredentials::new(codes::CRL_NOT_YET_VALID, text));
        }
        Ok(())
    }
}

/// It is not a CRL, or of a kind that is not supported: delta, indirect, partial reasons.
fn not_usable(reason: &dyn fmt::Display) -> InvalidCredentials {
    unsupported(format!(
        "not usable: {reason}; a complete list of version 2 is needed"
    ))
}

fn unsupported(text: impl Into<String>) -> InvalidCredentials {
    InvalidCredentials::new(codes::CRL_UNSUPPORTED, text)
}

/// The issuer that a list names, even if the list is refused.
pub(crate) fn claimed_issuer(der: &CertificateRevocationListDer<'_>) -> Option<Vec<u8>> {
    let (_, crl) = CertificateRevocationList::from_der(der).ok()?;
    Some(canonical(crl.issuer().as_raw()))
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
