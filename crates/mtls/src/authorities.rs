//! From the files of roots and revocation lists to the [`Authorities`] that judge by them.

use rustls::pki_types::CertificateDer;

use crate::crl::{CrlFacts, InvalidCrl};
use crate::invalid::InvalidCredentials;
use crate::issuers::Issuers;
use crate::pem_file::PemFile;
use crate::verify::{Authorities, ExpiredCrls};

impl Authorities {
    /// The roots of `roots` and the revocation lists of `crls`, of which none may be in doubt.
    ///
    /// The signature of a list is checked at once when its issuer is a root or in `chain`.
    ///
    /// # Errors
    /// [`InvalidCredentials`], which names the file and what is wrong with it.
    pub fn of_files(
        roots: &[PemFile],
        crls: &[PemFile],
        chain: &[CertificateDer<'_>],
        expired_crls: ExpiredCrls,
    ) -> Result<Self, InvalidCredentials> {
        let mut authorities = Self::with_roots(roots, expired_crls)?;
        authorities.add_crls(crls, chain)?;
        Ok(authorities)
    }

    pub(crate) fn with_roots<'a>(
        roots: impl IntoIterator<Item = &'a PemFile>,
        expired_crls: ExpiredCrls,
    ) -> Result<Self, InvalidCredentials> {
        let mut authorities = Self {
            expired_crls,
            ..Self::default()
        };
        for file in roots {
            authorities.roots.extend(file.roots()?);
        }
        Ok(authorities)
    }

    /// Adds revocation lists, and gives their facts in the same order.
    pub(crate) fn add_crls<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a PemFile>,
        chain: &[CertificateDer<'_>],
    ) -> Result<Vec<CrlFacts>, InvalidCredentials> {
        let issuers = Issuers::new(chain.get(1..).unwrap_or_default(), &self.roots);
        let mut all: Vec<CrlFacts> = Vec::new();
        for file in files {
            for (index, der) in file.revocation_lists()?.iter().enumerate() {
                let fault = |source| InvalidCredentials::Crl {
                    path: file.path.clone(),
                    position: index + 1,
                    source,
                };
                let (facts, list) = CrlFacts::read(der, &issuers).map_err(fault)?;
                if all.iter().any(|other| other.covers_the_same_as(&facts)) {
                    return Err(fault(InvalidCrl::Duplicate {
                        issuer: facts.issuer,
                    }));
                }
                self.crls.push(list);
                all.push(facts);
            }
        }
        Ok(all)
    }
}
