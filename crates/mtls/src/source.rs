//! Where credentials come from: files, read by content, under names to blame.
//!
//! Never an interpretation of what was read, never an answer from a half-written set when a whole one is there.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::crypto::{self, Digest};

/// A file larger than this is no credential (1 MiB; a revocation list of 20,000 entries fits).
const MAX_FILE: u64 = 1 << 20;

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
        let chain = read(&self.chain)?;
        let key = if self.key == self.chain {
            chain.clone()
        } else {
            read(&self.key)?
        };
        let roots = read(&self.roots)?;
        let crls = match read(&self.crls) {
            Err(unreadable) if unreadable.source.kind() == io::ErrorKind::NotFound => None,
            crls => Some(crls?),
        };
        let digest = crypto::digest(
            [&chain, &key, &roots]
                .into_iter()
                .chain(&crls)
                .map(|file| file.bytes.as_slice()),
        );
        Ok(Material {
            chain,
            key,
            roots,
            crls,
            digest,
        })
    }
}

/// What was read, not yet looked at.
pub(crate) struct Material {
    pub(crate) chain: Contents,
    pub(crate) key: Contents,
    pub(crate) roots: Contents,
    pub(crate) crls: Option<Contents>,
    pub(crate) digest: Digest,
}

/// The bytes of one file, and its path for messages.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

fn read(path: &Path) -> Result<Contents, Unreadable> {
    let unreadable = |source| Unreadable {
        path: path.to_owned(),
        source,
    };
    // A FIFO would block for ever on open, and a device might never end.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(io::Error::other(format!(
            "larger than {MAX_FILE} bytes, so it is no credential file"
        ))));
    }
    Ok(Contents {
        path: path.to_owned(),
        bytes,
    })
}
