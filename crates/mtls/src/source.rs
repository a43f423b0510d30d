//! Where credentials come from: files, read by content, under names to blame.
//!
//! Never an interpretation of what was read, never an answer from a half-written set when a whole one is there.

use std::io;
use std::path::{Path, PathBuf};

use crate::crypto::{self, Digest};
use crate::pem_file::{PemFile, Unreadable};

/// How often a set that changes while it is read is read again before it is taken as it is.
const MAX_READS: usize = 5;

/// The files of one side's credentials. Relative paths are taken from the working directory.
///
/// A directory holds `tls.crt` (leaf, then intermediates), `tls.key`, `ca.crt` (one or more roots) and, optionally,
/// `crl.pem` (one or more revocation lists): the names of a cert-manager Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    chain: PathBuf,
    key: PathBuf,
    roots: PathBuf,
    crls: PathBuf,
}

impl Source {
    /// All files in one directory.
    pub fn directory(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        Self {
            chain: dir.join("tls.crt"),
            key: dir.join("tls.key"),
            roots: dir.join("ca.crt"),
            crls: dir.join("crl.pem"),
        }
    }

    /// Key and chain from one file, as a Kubernetes `podCertificate` volume writes it; the rest as before.
    pub fn with_bundle(self, file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        Self {
            chain: file.clone(),
            key: file,
            ..self
        }
    }

    /// Reads every file, again if the set changed meanwhile, so that a rotation in progress is seen before or after.
    pub(crate) fn read(&self) -> Result<Material, Unreadable> {
        let mut material = self.read_once();
        for _ in 1..MAX_READS {
            let again = self.read_once();
            let stable = match (&material, &again) {
                (Ok(first), Ok(second)) => first.digest == second.digest,
                (Err(first), Err(second)) => first.path == second.path,
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
            };
            material = again;
            if stable {
                break;
            }
        }
        material
    }

    fn read_once(&self) -> Result<Material, Unreadable> {
        let chain = PemFile::read(&self.chain)?;
        let key = if self.key == self.chain {
            chain.clone()
        } else {
            PemFile::read(&self.key)?
        };
        let roots = PemFile::read(&self.roots)?;
        let crls = match PemFile::read(&self.crls) {
            Err(unreadable) if unreadable.source.kind() == io::ErrorKind::NotFound => None,
            crls => Some(crls?),
        };
        Ok(Material::new(chain, key, roots, crls))
    }
}

/// What was read, not yet looked at.
pub(crate) struct Material {
    pub(crate) chain: PemFile,
    pub(crate) key: PemFile,
    pub(crate) roots: PemFile,
    pub(crate) crls: Option<PemFile>,
    pub(crate) digest: Digest,
}

impl Material {
    pub(crate) fn new(chain: PemFile, key: PemFile, roots: PemFile, crls: Option<PemFile>) -> Self {
        let digest = crypto::digest(
            [&chain, &key, &roots]
                .into_iter()
                .chain(&crls)
                .map(|file| file.bytes.as_slice()),
        );
        Self {
            chain,
            key,
            roots,
            crls,
            digest,
        }
    }
}
