//! Makes [`Authorities`] from files of roots and revocation lists.

use rustls::pki_types::CertificateDer;

use crate::trust::invalid::InvalidCredentials;
use crate::trust::issuers::Issuers;
use crate::trust::lists;
use crate::trust::pem_file::PemFile;
use crate::trust::revocation::{ExpiredCrls, MissingCrls, Rules};
use crate::trust::root::Vouches;
use crate::trust::verify::Authorities;

impl Authorities {
    /// The roots of `roots` and the revocation lists of `crls`, all of which must be valid.
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
        let mut all = Vec::new();
        for file in roots {
            all.extend(file.roots(&Vouches::ForEverybody)?);
        }
        let issuers = Issuers::new(chain.get(1..).unwrap_or_default(), &all);
        let mut lists = Vec::new();
        for file in crls {
            for (index, der) in file.revocation_lists()?.iter().enumerate() {
                let place = || format!("revocation list {} in {}", index + 1, file.path.display());
                let taken = lists::take(der, true, &lists, None, &issuers);
                lists.extend(taken.map_err(|error| error.at(place()))?);
            }
        }
        let rules = Rules {
            expired_crls,
            missing_crls: MissingCrls::default(),
        };
        Ok(Self {
            lists,
            ..Self::of(all.into(), rules)
        })
    }
}
