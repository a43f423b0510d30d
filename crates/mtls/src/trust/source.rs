//! Where credentials come from: files, read by content, under names to blame.
//!
//! Never an interpretation of what was read, never an answer from a half-written set when a whole one is there.

use std::io;
use std::path::{Path, PathBuf};

use crate::crypto::{self, Digest};
use crate::trust::pem_file::PemFile;
use crate::trust::unreadable::Unreadable;

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
    /// Whether the lists must be there.
    crls_required: bool,
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
            crls_required: false,
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

    /// The chain from a file of its own; the rest as before.
    pub fn with_chain(self, chain: impl Into<PathBuf>) -> Self {
        let chain = chain.into();
        Self { chain, ..self }
    }

    /// The key from a file of its own; the rest as before.
    pub fn with_key(self, key: impl Into<PathBuf>) -> Self {
        let key = key.into();
        Self { key, ..self }
    }

    /// The roots from a file of their own, as a bundle in a ConfigMap; the rest as before.
    pub fn with_roots(self, roots: impl Into<PathBuf>) -> Self {
        let roots = roots.into();
        Self { roots, ..self }
    }

    /// The revocation lists from a file of their own, which must be there; the rest as before.
    pub fn with_crls(self, crls: impl Into<PathBuf>) -> Self {
        Self {
            crls: crls.into(),
            crls_required: true,
            ..self
        }
    }

    /// Reads every file, again if the set changed meanwhile, so that a rotation in progress is seen before or after.
    pub(crate) fn read(&self) -> Material {
        let mut material = self.read_once();
        for _ in 1..MAX_READS {
            let again = self.read_once();
            let stable = material.contents() == again.contents();
            material = again;
            if stable {
                break;
            }
        }
        material
    }

    /// One file that cannot be read leaves the others as they are.
    fn read_once(&self) -> Material {
        Material {
            chain: PemFile::read(&self.chain),
            key: (self.key != self.chain).then(|| PemFile::read(&self.key)),
            roots: PemFile::read(&self.roots),
            crls: match PemFile::read_lists(&self.crls) {
                Err(unreadable)
                    if !self.crls_required
                        && unreadable.source.kind() == io::ErrorKind::NotFound =>
                {
                    Err(NoLists::Absent(unreadable.path))
                }
                crls => crls.map_err(NoLists::Unreadable),
            },
        }
    }
}

/// What was read, not yet looked at: each file by itself.
pub(crate) struct Material {
    pub(crate) chain: Result<PemFile, Unreadable>,
    /// `None` when it is in the file of the chain.
    pub(crate) key: Option<Result<PemFile, Unreadable>>,
    pub(crate) roots: Result<PemFile, Unreadable>,
    pub(crate) crls: Result<PemFile, NoLists>,
}

/// Why there are no revocation lists.
pub(crate) enum NoLists {
    /// There is no such file, and there need not be.
    Absent(PathBuf),
    Unreadable(Unreadable),
}

/// What was read, to be told from what is read next. A file that cannot be read has no content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) own: Option<Digest>,
    roots: Option<Digest>,
    crls: Option<Digest>,
}

impl Digests {
    /// Whether two reads in a row found the same roots.
    pub(crate) fn has_the_roots_of(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

impl Material {
    pub(crate) fn new(chain: PemFile, key: PemFile, roots: PemFile, crls: Option<PemFile>) -> Self {
        Self {
            chain: Ok(chain),
            key: Some(Ok(key)),
            roots: Ok(roots),
            crls: crls.ok_or_else(|| NoLists::Absent("crl.pem".into())),
        }
    }

    pub(crate) fn contents(&self) -> Digests {
        let chain = self.chain.as_ref().ok();
        let key = self.key.as_ref().map_or(chain, |key| key.as_ref().ok());
        Digests {
            own: chain
                .zip(key)
                .map(|(chain, key)| crypto::digest([&*chain.bytes, &*key.bytes])),
            roots: self.roots.as_ref().ok().map(PemFile::digest),
            crls: self.crls.as_ref().ok().map(PemFile::digest),
        }
    }
}
