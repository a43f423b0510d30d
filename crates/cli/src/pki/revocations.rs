//! The revocation list as it is kept between two runs: the list itself is the only record.

use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::encoding::{NotPem, revocation_lists};
use super::{InvalidSerial, Revocation, Serial};

/// What a revocation list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Its number (RFC 5280 §5.2.3); 0 before the first list.
    pub number: u64,
    /// Every certificate that was ever revoked.
    pub entries: Vec<Revocation>,
}

impl Revocations {
    /// Reads a list that was written here.
    ///
    /// # Errors
    /// When it is not one. It must not be taken for an empty one: that would un-revoke.
    pub fn from_pem(text: &str) -> Result<Self, InvalidRevocations> {
        let lists = revocation_lists("the revocation list", text)?;
        let [der] = &lists[..] else {
            return Err(InvalidRevocations::Several(lists.len()));
        };
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|e| InvalidRevocations::Malformed(e.to_string()))?;
        let number = list
            .crl_number()
            .and_then(|number| u64::try_from(number).ok())
            .ok_or(InvalidRevocations::NoNumber)?;
        let entries = list.iter_revoked_certificates().map(|entry| {
            let serial = Serial::from_octets(entry.raw_serial())?;
            Ok(Revocation {
                serial,
                at: entry.revocation_date.to_datetime(),
            })
        });
        Ok(Self {
            number,
            entries: entries.collect::<Result<_, InvalidSerial>>()?,
        })
    }

    /// Since when a certificate is revoked.
    pub fn of(&self, serial: &Serial) -> Option<OffsetDateTime> {
        self.entries
            .iter()
            .find(|entry| entry.serial == *serial)
            .map(|entry| entry.at)
    }
}

/// Why a file is not a revocation list of ours.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRevocations {
    /// It is not PEM.
    #[error(transparent)]
    Pem(#[from] NotPem),
    /// There are several, and one of them would be left out.
    #[error("it holds {0} revocation lists, and one is written here")]
    Several(usize),
    /// It is not a revocation list.
    #[error("the revocation list is malformed: {0}")]
    Malformed(String),
    /// It has no number, or one that cannot be counted up.
    #[error("the revocation list has no number that fits in 64 bits")]
    NoNumber,
    /// It revokes something that has no serial number.
    #[error("the revocation list has an entry without a serial number")]
    Serial(#[from] InvalidSerial),
}
