//! The source of credentials: files, or the SPIFFE Workload API. The contents are not interpreted here.

use std::path::{Path, PathBuf};

use crate::trust::agent::Agent;
use crate::trust::invalid::InvalidCredentials;
use crate::trust::material::{Material, NewBundle, NewLists};
use crate::trust::pem_file::PemFile;
use crate::trust::root::Vouches;
use crate::trust::workload::WorkloadApi;

/// How often a set that changes while it is read is read again before it is used as it is.
const MAX_READS: usize = 5;

/// Where the credentials of one side come from: files, or an agent. Relative paths are taken from the working directory.
///
/// A directory holds `tls.crt` (leaf, then intermediates), `tls.key`, `ca.crt` (one or more roots) and, optionally,
/// `crl.pem` (one or more revocation lists): the names of a cert-manager Secret. The methods that name one file of them
/// change nothing about an agent, which has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(SourceKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum SourceKind {
    Files(Files),
    WorkloadApi(WorkloadApi),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
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
        Self(SourceKind::Files(Files {
            chain: dir.join("tls.crt"),
            key: dir.join("tls.key"),
            roots: dir.join("ca.crt"),
            crls: dir.join("crl.pem"),
            crls_required: false,
        }))
    }

    /// An agent that provides identity and trust, and streams each change, without files.
    pub fn workload_api(api: WorkloadApi) -> Self {
        Self(SourceKind::WorkloadApi(api))
    }

    /// Key and chain from one file, as a Kubernetes `podCertificate` volume writes it; the rest as before.
    pub fn with_bundle(self, file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        self.with(|files| {
            files.chain.clone_from(&file);
            files.key = file;
        })
    }

    /// The chain from a file of its own; the rest as before.
    pub fn with_chain(self, chain: impl Into<PathBuf>) -> Self {
        self.with(|files| files.chain = chain.into())
    }

    /// The key from a file of its own; the rest as before.
    pub fn with_key(self, key: impl Into<PathBuf>) -> Self {
        self.with(|files| files.key = key.into())
    }

    /// The roots from a file of their own, as a bundle in a ConfigMap; the rest as before.
    pub fn with_roots(self, roots: impl Into<PathBuf>) -> Self {
        self.with(|files| files.roots = roots.into())
    }

    /// The revocation lists from a file of their own, which must be there; the rest as before.
    pub fn with_crls(self, crls: impl Into<PathBuf>) -> Self {
        self.with(|files| {
            files.crls = crls.into();
            files.crls_required = true;
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Files)) -> Self {
        match &mut self.0 {
            SourceKind::Files(files) => change(files),
            SourceKind::WorkloadApi(_) => {}
        }
        self
    }

    /// Opens the source. Waits for an agent's first response, since before that there is nothing to read.
    pub(crate) fn open(self) -> Result<Feed, InvalidCredentials> {
        Ok(match self.0 {
            SourceKind::Files(files) => Feed::Files(files),
            SourceKind::WorkloadApi(api) => Feed::Agent(Agent::follow(&api)?),
        })
    }
}

/// A source in use. Clones read the same.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    Files(Files),
    Agent(Agent),
}

impl Feed {
    /// The current content.
    pub(crate) fn read(&self) -> Material {
        match self {
            Self::Files(files) => files.read(),
            Self::Agent(agent) => agent.read(),
        }
    }

    /// Whether a read is always complete, so that whatever is missing was removed.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Files(_) => false,
            Self::Agent(_) => true,
        }
    }
}

impl Files {
    /// Reads every file, again if the set changed meanwhile, so that a rotation in progress is seen before or after.
    fn read(&self) -> Material {
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

    /// A file that cannot be read does not affect the others.
    fn read_once(&self) -> Material {
        Material {
            chain: PemFile::read(&self.chain),
            key: (self.key != self.chain).then(|| PemFile::read(&self.key)),
            bundles: vec![NewBundle {
                vouches: Vouches::ForEverybody,
                roots: PemFile::read(&self.roots),
            }],
            lists: NewLists {
                path: self.crls.clone(),
                file: match PemFile::read_lists(&self.crls) {
                    Err(_) if !self.crls_required && base::file::is_absent(&self.crls) => Ok(None),
                    read => read.map(Some),
                },
            },
            id: None,
            trouble: None,
        }
    }
}
