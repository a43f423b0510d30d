//! A PKI on the disk: `ca/{root,issuing}.{crt,key}`, `ca/crl.pem`, and for each identity a directory of its
//! own.
//!
//! An identity's directory is what a service reads: `tls.crt`, `tls.key`, `ca.crt` and, once something was
//! revoked, `crl.pem`. Where the key is held elsewhere, `tls.csr` is there in its place. An open PKI
//! is locked, so that two runs do not undo each other's work. An authority is never overwritten.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pki_types::CertificateDer;
use rcgen::{KeyPair, PublicKeyData as _};
use time::OffsetDateTime;

use super::certificate::{Certificate, Malformed};
use super::encoding::{NotPem, first_certificate, private_key};
use super::files::{self, Batch, FileError, Secrecy};
use super::{
    Authority, IdentityName, InvalidAuthority, InvalidLifetime, InvalidRevocations,
    InvalidSigningRequest, IssueError, Revocations, Serial, SigningRequest, Validity,
};

/// The root outlives the authority that it certifies, which outlives every leaf.
const ROOT_LIFETIME: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 86_400);
const ISSUING_LIFETIME: std::time::Duration = std::time::Duration::from_secs(5 * 365 * 86_400);

/// A PKI on the disk, locked until this is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    authority: Authority,
    root_pem: String,
    _lock: File,
}

/// Whether an authority was found or had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there, and is as it was.
    Found,
    /// There was none.
    Made,
}

impl Directory {
    /// Opens the PKI, or makes its root and issuing authority when there is none at all.
    ///
    /// # Errors
    /// When an authority is there in part or is not usable. It is left as it is.
    pub fn init(path: &Path, now: OffsetDateTime) -> Result<(Self, Origin), DirectoryError> {
        let ca = path.join("ca");
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(FileError::new("create", path))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&ca)
            .map_err(FileError::new("create", &ca))?;
        let lock = lock(&ca)?;
        keep_out_of_git(path)?;
        let files = AUTHORITY_FILES.map(|file| ca.join(file));
        let origin = if files.iter().any(|file| file.symlink_metadata().is_ok()) {
            Origin::Found
        } else {
            make_authorities(&ca, now)?;
            Origin::Made
        };
        Ok((Self::load(path, lock, now)?, origin))
    }

    /// Opens a PKI that is there.
    ///
    /// # Errors
    /// When it is not there, or its authority is not usable.
    pub fn open(path: &Path, now: OffsetDateTime) -> Result<Self, DirectoryError> {
        let ca = path.join("ca");
        if !ca.join("issuing.crt").exists() {
            return Err(DirectoryError::NoAuthority(path.to_owned()));
        }
        Self::load(path, lock(&ca)?, now)
    }

    fn load(path: &Path, lock: File, now: OffsetDateTime) -> Result<Self, DirectoryError> {
        let file = |name| path.join("ca").join(name);
        let read = |name| {
            files::read(&file(name)).map_err(|error| {
                if error.is_missing() {
                    DirectoryError::Incomplete(file(name))
                } else {
                    error.into()
                }
            })
        };
        for key in ["root.key", "issuing.key"].map(file) {
            // A root's key may be kept elsewhere.
            let mode = key.metadata().map_or(0, |key| key.permissions().mode());
            if mode & OTHERS != 0 {
                return Err(DirectoryError::Exposed { key, mode });
            }
        }
        let root_pem = read("root.crt")?;
        let (issuing_pem, issuing_key) = (read("issuing.crt")?, read("issuing.key")?);
        let unusable = |name| {
            move |source| DirectoryError::Authority {
                file: file(name),
                source,
            }
        };
        let authority =
            Authority::from_pem(&issuing_pem, &issuing_key).map_err(unusable("issuing.crt"))?;
        let root = first_certificate("the certificate", &root_pem)
            .map_err(|e| unusable("root.crt")(e.into()))?;
        let root = Certificate::from_der(&root).map_err(|e| unusable("root.crt")(e.into()))?;
        let issuing = Certificate::from_der(authority.certificate())
            .map_err(|e| unusable("issuing.crt")(e.into()))?;
        if !issuing.names_issuer(&root) || !issuing.is_signed_by(&root) {
            return Err(DirectoryError::NotOfRoot(file("issuing.crt")));
        }
        for (name, certificate) in [("root.crt", &root), ("issuing.crt", &issuing)] {
            let validity = certificate.validity();
            if !validity.contains(now) {
                return Err(DirectoryError::NotValid {
                    file: file(name),
                    validity,
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            authority,
            root_pem,
            _lock: lock,
        })
    }

    /// The authority that issues leaves here.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The identities that have a certificate, in alphabetical order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn identities(&self) -> Result<Vec<IdentityName>, DirectoryError> {
        let failed = || FileError::new("read", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let Some(Ok(name)) = name.to_str().map(str::parse::<IdentityName>) else {
                continue;
            };
            if self.file(&name, "tls.crt").exists() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The credentials of an identity, or `None` when it has no certificate.
    ///
    /// # Errors
    /// When a file cannot be read. What it says is not looked at.
    pub fn credentials(&self, name: &IdentityName) -> Result<Option<Credentials>, DirectoryError> {
        let read = |file| match files::read(&self.file(name, file)) {
            Err(error) if error.is_missing() => Ok(None),
            text => text.map(Some),
        };
        let Some(chain_pem) = read("tls.crt")? else {
            return Ok(None);
        };
        let key = self.file(name, "tls.key").metadata();
        Ok(Some(Credentials {
            chain_pem,
            key_pem: read("tls.key")?.unwrap_or_default(),
            key_is_private: key.is_ok_and(|key| key.permissions().mode() & OTHERS == 0),
            request: match read("tls.csr")? {
                None => None,
                Some(text) => {
                    Some(SigningRequest::from_pem(text.as_bytes()).map_err(|source| {
                        DirectoryError::Request {
                            file: self.file(name, "tls.csr"),
                            source,
                        }
                    })?)
                }
            },
        }))
    }

    /// Puts a chain in place of the one that an identity has, with the root and the revocation list, and with the
    /// key, if we hold it, or else the request that it came by.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn put(
        &self,
        name: &IdentityName,
        chain_pem: &str,
        holder: Holder<'_>,
    ) -> Result<(), DirectoryError> {
        let directory = self.path.join(name.as_str());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(FileError::new("create", &directory))?;
        let mut batch = Batch::default();
        batch.stage(&self.file(name, "ca.crt"), &self.root_pem, Secrecy::Public)?;
        if let Some(list) = self.revocation_list()? {
            batch.stage(&self.file(name, "crl.pem"), &list, Secrecy::Public)?;
        }
        let (file, contents, secrecy, stale) = match holder {
            Holder::Us { key_pem } => ("tls.key", key_pem, Secrecy::Private, Some("tls.csr")),
            Holder::Them { request } => {
                let key = files::read(&self.file(name, "tls.key"));
                let is_theirs = key.is_ok_and(|key| is_key_of(&key, request));
                let stale = (!is_theirs).then_some("tls.key");
                ("tls.csr", request.pem(), Secrecy::Public, stale)
            }
        };
        batch.stage(&self.file(name, file), contents, secrecy)?;
        batch.stage(&self.file(name, "tls.crt"), chain_pem, Secrecy::Public)?;
        batch.replace()?;
        match stale.map(|file| self.file(name, file)) {
            Some(file) if file.exists() => {
                Ok(fs::remove_file(&file).map_err(FileError::new("remove", &file))?)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Removes the files of an identity, and its directory if nothing else is in it.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, name: &IdentityName) -> Result<(), DirectoryError> {
        // The certificate last: while it is there, the identity is, and this can be done again.
        for file in ["tls.key", "tls.csr", "ca.crt", "crl.pem", "tls.crt"] {
            let file = self.file(name, file);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FileError::new("remove", &file)(error).into());
                }
                Ok(()) | Err(_) => {}
            }
        }
        let directory = self.path.join(name.as_str());
        match fs::remove_dir(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                Err(FileError::new("remove", &directory)(error).into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether there is a key that is not the one of `request`.
    pub(super) fn has_another_key(&self, name: &IdentityName, request: &SigningRequest) -> bool {
        let key = files::read(&self.file(name, "tls.key"));
        key.is_ok_and(|key| !is_key_of(&key, request))
    }

    /// What is revoked; nothing before the first list.
    ///
    /// # Errors
    /// When there is a list that cannot be read, which must not pass for an empty one.
    pub fn revocations(&self) -> Result<Revocations, DirectoryError> {
        match self.revocation_list()? {
            None => match self.distributed_list()? {
                None => Ok(Revocations::default()),
                Some(copy) => Err(DirectoryError::RevocationsLost {
                    file: self.list_file(),
                    copy,
                }),
            },
            Some(text) => {
                Revocations::from_pem(&text).map_err(|source| DirectoryError::Revocations {
                    file: self.list_file(),
                    source,
                })
            }
        }
    }

    /// Signs a list with the next number and gives it to every identity.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn publish(
        &self,
        revocations: &Revocations,
        validity: Validity,
    ) -> Result<(), DirectoryError> {
        let Revocations { number, entries } = revocations;
        let Validity {
            not_before,
            not_after,
        } = validity;
        let list = self
            .authority
            .crl(*number, entries, not_before, not_after)?;
        let mut batch = Batch::default();
        batch.stage(&self.list_file(), &list, Secrecy::Public)?;
        for name in self.identities()? {
            batch.stage(&self.file(&name, "crl.pem"), &list, Secrecy::Public)?;
        }
        Ok(batch.replace()?)
    }

    fn revocation_list(&self) -> Result<Option<String>, FileError> {
        match files::read(&self.list_file()) {
            Err(error) if error.is_missing() => Ok(None),
            text => text.map(Some),
        }
    }

    /// A copy of the list that some identity was given.
    fn distributed_list(&self) -> Result<Option<PathBuf>, DirectoryError> {
        let mut copies = self
            .identities()?
            .into_iter()
            .map(|name| self.file(&name, "crl.pem"));
        Ok(copies.find(|copy| copy.exists()))
    }

    fn list_file(&self) -> PathBuf {
        self.path.join("ca").join("crl.pem")
    }

    fn file(&self, name: &IdentityName, file: &str) -> PathBuf {
        self.path.join(name.as_str()).join(file)
    }
}

/// Keeps all of a PKI out of git but the files that people write.
const GIT_IGNORE: &str = "\
# Whatever is made here stays here: no certificate and, above all, no key is ever committed.
*
!.gitignore
!README.md
!dev.toml
";

/// Writes `.gitignore` before any key is there. One that is there is left as it is.
fn keep_out_of_git(path: &Path) -> Result<(), FileError> {
    let file = path.join(".gitignore");
    if file.symlink_metadata().is_ok() {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.stage(&file, GIT_IGNORE, Secrecy::Public)?;
    batch.create()
}

/// The credentials of an identity as they are on the disk.
pub struct Credentials {
    /// The leaf and what is above it.
    pub chain_pem: String,
    /// The private key; empty when it is missing.
    pub key_pem: String,
    /// Whether only its owner and its group may read it.
    pub key_is_private: bool,
    /// The signing request, when the key is held elsewhere.
    pub request: Option<SigningRequest>,
}

/// The holder of the key of a certificate.
#[derive(Clone, Copy)]
pub enum Holder<'a> {
    /// We made it.
    Us {
        /// As PEM.
        key_pem: &'a str,
    },
    /// The sender of the request, which is kept so that the certificate can be renewed.
    Them {
        /// The request.
        request: &'a SigningRequest,
    },
}

impl std::fmt::Debug for Holder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Us { key_pem: _ } => "Us",
            Self::Them { request: _ } => "Them",
        })
    }
}

impl Credentials {
    /// The certificate of the identity.
    ///
    /// # Errors
    /// When there is none.
    pub fn leaf(&self) -> Result<CertificateDer<'static>, NotPem> {
        first_certificate("tls.crt", &self.chain_pem)
    }

    /// The private key, if there is one that can be read.
    pub(super) fn key(&self) -> Option<KeyPair> {
        key_of(&self.key_pem)
    }
}

fn key_of(pem: &str) -> Option<KeyPair> {
    let key = private_key("tls.key", pem).ok()?;
    KeyPair::try_from(&*key).ok()
}

fn is_key_of(key_pem: &str, request: &SigningRequest) -> bool {
    key_of(key_pem).is_some_and(|key| key.subject_public_key_info() == request.public_key())
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The bits that a key must not have: the group may read it, and others have no access.
const OTHERS: u32 = 0o027;

const AUTHORITY_FILES: [&str; 4] = ["root.key", "root.crt", "issuing.key", "issuing.crt"];

fn lock(directory: &Path) -> Result<File, FileError> {
    let file = File::open(directory).map_err(FileError::new("read", directory))?;
    file.lock().map_err(FileError::new("lock", directory))?;
    Ok(file)
}

fn make_authorities(ca: &Path, now: OffsetDateTime) -> Result<(), DirectoryError> {
    // Two PKIs that share a name look like one with a wrong signature, which is hard to understand.
    let tag: String = Serial::random()
        .to_string()
        .chars()
        .skip(2)
        .take(8)
        .collect();
    let validity = Validity::starting(now, ROOT_LIFETIME)?;
    let root = Authority::root(&format!("Countersign development root {tag}"), validity)?;
    let validity = Validity::starting(now, ISSUING_LIFETIME)?;
    let issuing = root.issuing(
        &format!("Countersign development issuing CA {tag}"),
        validity,
    )?;
    let mut batch = Batch::default();
    batch.stage(&ca.join("root.key"), root.key_pem(), Secrecy::Private)?;
    batch.stage(
        &ca.join("root.crt"),
        root.certificate_pem(),
        Secrecy::Public,
    )?;
    batch.stage(&ca.join("issuing.key"), issuing.key_pem(), Secrecy::Private)?;
    batch.stage(
        &ca.join("issuing.crt"),
        issuing.certificate_pem(),
        Secrecy::Public,
    )?;
    Ok(batch.create()?)
}

/// Why a PKI on the disk is not usable. The authority in it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others can read or write the key of an authority.
    #[error(
        "others can read or write {} (mode {:04o}), so certificates may have been made with it: make a new authority, or, if no one had access, `chmod 600` it",
        key.display(),
        mode & 0o7777
    )]
    Exposed {
        /// The file.
        key: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no PKI.
    #[error("there is no authority in {}; make one with `{} pki init`", .0.display(), countersign::program::tool())]
    NoAuthority(PathBuf),
    /// Some files of the authority are there and one is not.
    #[error(
        "{} is missing while other files of the authority are there; restore it, or use another directory: \
         an authority is never overwritten", .0.display()
    )]
    Incomplete(PathBuf),
    /// A file of the authority is not one.
    #[error("{}: {source}", file.display())]
    Authority {
        /// The certificate.
        file: PathBuf,
        /// What is wrong.
        source: InvalidAuthority,
    },
    /// The issuing authority is under another root.
    #[error("{} was not issued by root.crt beside it", .0.display())]
    NotOfRoot(PathBuf),
    /// An authority has expired, or the clock is wrong.
    #[error(
        "{} is valid from {} to {}, and that is not now; check the clock, or make a new PKI in another directory",
        file.display(), validity.not_before, validity.not_after
    )]
    NotValid {
        /// The certificate.
        file: PathBuf,
        /// When it is valid.
        validity: Validity,
    },
    /// The revocation list is not one.
    #[error("{}: {source}; restore it: without it, what was revoked would be trusted again", file.display())]
    Revocations {
        /// The list.
        file: PathBuf,
        /// What is wrong.
        source: InvalidRevocations,
    },
    /// The revocation list is missing, and an identity has a copy.
    #[error(
        "{} is missing, and {} is a copy of it; restore it from there: without it, what was revoked would be trusted again",
        file.display(), copy.display()
    )]
    RevocationsLost {
        /// The list.
        file: PathBuf,
        /// The copy.
        copy: PathBuf,
    },
    /// A stored signing request is damaged.
    #[error("{}: {source}", file.display())]
    Request {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: InvalidSigningRequest,
    },
    /// Something could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The clock does not allow it.
    #[error(transparent)]
    Lifetime(#[from] InvalidLifetime),
    /// A certificate that was just made cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}
