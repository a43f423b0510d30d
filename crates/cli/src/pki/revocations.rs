//! The revocation list as it is kept between two runs: the list itself is the only record.

use anyhow::{Context as _, Result, anyhow, bail};
use mtls::PemFile;
use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Revocation, Serial};

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
    /// It is not one. It must not be taken for an empty one: that would un-revoke.
    pub fn from_pem(text: &str) -> Result<Self> {
        let lists = PemFile::new("the revocation list", text.into()).revocation_lists()?;
        let [der] = &lists[..] else {
            bail!(
                "it has {} revocation lists, but this tool keeps exactly one",
                lists.len()
            );
        };
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|e| anyhow!("the revocation list is malformed: {e}"))?;
        let number = list
            .crl_number()
            .and_then(|number| u64::try_from(number).ok())
            .context("the revocation list has no number that fits in 64 bits")?;
        let entries = list.iter_revoked_certificates().map(|entry| {
            Ok(Revocation {
                serial: Serial::from_octets(entry.raw_serial())?,
                at: entry.revocation_date.to_datetime(),
            })
        });
        let entries = entries
            .collect::<Result<_, &str>>()
            .map_err(|why| anyhow!("the revocation list is malformed: {why}"))?;
        Ok(Self { number, entries })
    }

    /// Since when a certificate is revoked.
    pub fn of(&self, serial: &Serial) -> Option<OffsetDateTime> {
        self.entries
            .iter()
            .find(|entry| entry.serial == *serial)
            .map(|entry| entry.at)
    }
}
