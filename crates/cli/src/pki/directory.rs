//! A PKI on the disk: `ca/{root,issuing}.{crt,key}`, `ca/crl.pem`, and for each identity a directory of its
//! own.
//!
//! An identity's directory is what a service reads: `tls.crt`, `tls.key`, `ca.crt` and, once something was
//! revoked, `crl.pem`. Where the key is held elsewhere, `tls.csr` is there in its place. An open PKI
//! is locked, so that two runs do not undo each other's work. An authority is never overwritten.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base::text::timestamp;
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::credentials::{Credentials, Holder, is_key_of};
use super::encoding::first_certificate;
use super::files::{self, Batch, Group, OTHERS, Secrecy};
use super::{Authority, IdentityName, Revocations, Serial, SigningRequest, Validity};

/// The root outlives the authority that it certifies, which outlives every leaf.
const ROOT_LIFETIME: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 86_400);
const ISSUING_LIFETIME: std::time::Duration = std::time::Duration::from_secs(5 * 365 * 86_400);

/// A PKI on the disk at one time, locked until this is dropped.
pub(crate) struct Directory {
    path: PathBuf,
    pub(super) now: OffsetDateTime,
    /// The authority that issues leaves here.
    pub(crate) authority: Authority,
    /// The certificate of that authority.
    pub(super) issuing: Certificate,
    root_pem: String,
    readers: Option<Group>,
    _lock: File,
}

/// Whether an authority was found or had to be made.
pub(crate) enum Origin {
    /// It was there, and is as it was.
    Found,
    /// There was none.
    Made,
}

impl Directory {
    /// Opens the PKI, or makes its root and issuing authority when there is none at all.
    pub(crate) fn init(
        path: &Path,
        readers: Option<Group>,
        now: OffsetDateTime,
    ) -> Result<(Self, Origin)> {
        let ca = path.join("ca");
        if let Some(group) = readers {
            group.probe(above(path))?;
        }
        create(path, 0o755)?;
        create(&ca, 0o700)?;
        let lock = lock(&ca)?;
        keep_out_of_git(path)?;
        let files = AUTHORITY_FILES.map(|file| ca.join(file));
        let origin = if files.iter().any(|file| file.symlink_metadata().is_ok()) {
            Origin::Found
        } else {
            make_authorities(&ca, now)?;
            Origin::Made
        };
        Ok((Self::load(path, lock, now)?.read_by(readers), origin))
    }

    /// Opens a PKI that is there.
    pub(crate) fn open(path: &Path, now: OffsetDateTime) -> Result<Self> {
        let ca = path.join("ca");
        ensure!(
            ca.join("issuing.crt").exists(),
            "there is no CA in {}; create one with `{} pki init`",
            path.display(),
            countersign::program::tool()
        );
        Self::load(path, lock(&ca)?, now)
    }

    fn load(path: &Path, lock: File, now: OffsetDateTime) -> Result<Self> {
        let file = |name| path.join("ca").join(name);
        let read = |name| {
            files::read_if_there(&file(name))?.with_context(|| {
                format!(
                    "{} is missing, but other files of the CA are there; restore it, or use another directory: a CA is never overwritten",
                    file(name).display()
                )
            })
        };
        for key in ["root.key", "issuing.key"].map(file) {
            // A root's key may be kept elsewhere.
            let mode = key.metadata().map_or(0, |key| key.permissions().mode());
            ensure!(
                mode & OTHERS == 0,
                "others can read or write {} (mode {:04o}), so certificates may have been made with it: make a new CA, or, if no one had access, `chmod 600` it",
                key.display(),
                mode & 0o7777
            );
        }
        let root_pem = read("root.crt")?;
        let (issuing_pem, issuing_key) = (read("issuing.crt")?, read("issuing.key")?);
        let named = |name| move || file(name).display().to_string();
        let authority = Authority::from_pem(&issuing_pem, &issuing_key);
        let authority = authority.with_context(named("issuing.crt"))?;
        let root = first_certificate("the certificate", &root_pem)
            .and_then(|root| Certificate::from_der(&root))
            .with_context(named("root.crt"))?;
        let issuing = Certificate::from_der(authority.certificate())?;
        ensure!(
            issuing.names_issuer(&root) && issuing.is_signed_by(&root),
            "{} was not issued by root.crt beside it",
            file("issuing.crt").display()
        );
        for (name, certificate) in [("root.crt", &root), ("issuing.crt", &issuing)] {
            let validity = certificate.validity;
            ensure!(
                validity.contains(now),
                "{} is valid from {} to {}, and that is not now; check the clock, or make a new PKI in another directory",
                file(name).display(),
                timestamp(validity.not_before),
                timestamp(validity.not_after)
            );
        }
        Ok(Self {
            path: path.to_owned(),
            now,
            authority,
            issuing,
            root_pem,
            readers: None,
            _lock: lock,
        })
    }

    /// Lets a group read the keys of the identities that are written or shared from now on. Without one, what is
    /// replaced keeps its readers, and what is new is its owner's.
    pub(crate) fn read_by(self, readers: Option<Group>) -> Self {
        Self { readers, ..self }
    }

    /// Lets the group read what an identity has, if there is a group.
    pub(super) fn share(&self, name: &IdentityName) -> Result<()> {
        let Some(group) = self.readers else {
            return Ok(());
        };
        group.enter(&self.path.join(name.as_str()))?;
        let mut files = IDENTITY_FILES.into_iter();
        files.try_for_each(|(file, secrecy)| group.read(&self.file(name, file), secrecy))
    }

    /// The identities that have a certificate, in alphabetical order.
    pub(crate) fn identities(&self) -> Result<Vec<IdentityName>> {
        let failed = || files::cannot("read", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(failed())? {
            let name = entry.with_context(failed())?.file_name();
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
    pub(crate) fn credentials(&self, name: &IdentityName) -> Result<Option<Credentials>> {
        let read = |file| files::read_if_there(&self.file(name, file));
        let Some(chain_pem) = read("tls.crt")? else {
            return Ok(None);
        };
        let key = self.file(name, "tls.key").metadata();
        let request = read("tls.csr")?.map(|pem| SigningRequest::from_pem(pem.as_bytes()));
        Ok(Some(Credentials {
            chain_pem,
            key_pem: read("tls.key")?.unwrap_or_default(),
            key_is_private: key.is_ok_and(|key| key.permissions().mode() & OTHERS == 0),
            request: request
                .transpose()
                .with_context(|| self.file(name, "tls.csr").display().to_string())?,
        }))
    }

    /// Puts a chain in place of the one that an identity has, with the root and the revocation list, and with the
    /// key, if we hold it, or else the request that it came by.
    pub(crate) fn put(
        &self,
        name: &IdentityName,
        chain_pem: &str,
        holder: Holder<'_>,
    ) -> Result<()> {
        self.make_room(&self.path.join(name.as_str()))?;
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
        batch.replace(self.readers)?;
        stale.map_or(Ok(()), |stale| remove_file(&self.file(name, stale)))
    }

    /// Makes the directory of an identity, or none at all if the group may not be let in.
    fn make_room(&self, directory: &Path) -> Result<()> {
        let made = !directory.exists();
        create(directory, 0o700)?;
        let entered = self.readers.map_or(Ok(()), |group| group.enter(directory));
        if made && entered.is_err() {
            fs::remove_dir(directory).with_context(files::cannot("remove", directory))?;
        }
        entered
    }

    /// Removes the files of an identity, and its directory if nothing else is in it.
    pub(crate) fn remove(&self, name: &IdentityName) -> Result<()> {
        for (file, _) in IDENTITY_FILES {
            remove_file(&self.file(name, file))?;
        }
        let directory = self.path.join(name.as_str());
        match fs::remove_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed.with_context(files::cannot("remove", &directory)),
        }
    }

    /// Whether there is a key that is not the one of `request`.
    pub(super) fn has_another_key(&self, name: &IdentityName, request: &SigningRequest) -> bool {
        let key = files::read(&self.file(name, "tls.key"));
        key.is_ok_and(|key| !is_key_of(&key, request))
    }

    /// What is revoked; nothing before the first list.
    pub(crate) fn revocations(&self) -> Result<Revocations> {
        let file = self.list_file();
        let harm = "without it, what was revoked would be trusted again";
        if let Some(text) = self.revocation_list()? {
            let read = Revocations::from_pem(&text);
            return read.map_err(|e| anyhow!("{}: {e}; restore it: {harm}", file.display()));
        }
        let copies = self.identities()?.into_iter();
        let mut copies = copies.map(|name| self.file(&name, "crl.pem"));
        match copies.find(|copy| copy.exists()) {
            None => Ok(Revocations::default()),
            Some(copy) => bail!(
                "{} is missing, and {} is a copy of it; restore it from there: {harm}",
                file.display(),
                copy.display()
            ),
        }
    }

    /// Signs a list and gives it to every identity.
    pub(super) fn publish(&self, revocations: &Revocations, validity: Validity) -> Result<()> {
        let Revocations { number, entries } = revocations;
        let (from, until) = (validity.not_before, validity.not_after);
        let list = self.authority.crl(*number, entries, from, until)?;
        let mut batch = Batch::default();
        batch.stage(&self.list_file(), &list, Secrecy::Public)?;
        for name in self.identities()? {
            batch.stage(&self.file(&name, "crl.pem"), &list, Secrecy::Public)?;
        }
        batch.replace(None)
    }

    fn revocation_list(&self) -> Result<Option<String>> {
        files::read_if_there(&self.list_file())
    }

    fn list_file(&self) -> PathBuf {
        self.path.join("ca").join("crl.pem")
    }

    fn file(&self, name: &IdentityName, file: &str) -> PathBuf {
        self.path.join(name.as_str()).join(file)
    }
}

/// What an identity may have. The certificate is last: while it is there, the identity is, so that what was done in
/// part can be done again.
const IDENTITY_FILES: [(&str, Secrecy); 5] = [
    ("tls.key", Secrecy::Private),
    ("tls.csr", Secrecy::Public),
    ("ca.crt", Secrecy::Public),
    ("crl.pem", Secrecy::Public),
    ("tls.crt", Secrecy::Public),
];

/// The directory itself, or else the nearest above it that is there.
fn above(path: &Path) -> &Path {
    let mut named = path.ancestors().filter(|it| !it.as_os_str().is_empty());
    named.find(|it| it.exists()).unwrap_or(Path::new("."))
}

/// Keeps all of a PKI out of git but the files that people write.
const GIT_IGNORE: &str = "\
# Commit no certificate and, above all, no key.
*
!.gitignore
!README.md
!dev.toml
";

/// Writes `.gitignore` before any key is there. One that is there is left as it is.
fn keep_out_of_git(path: &Path) -> Result<()> {
    let file = path.join(".gitignore");
    if file.symlink_metadata().is_ok() {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.stage(&file, GIT_IGNORE, Secrecy::Public)?;
    batch.create()
}

const AUTHORITY_FILES: [&str; 4] = ["root.key", "root.crt", "issuing.key", "issuing.crt"];

fn create(directory: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        .with_context(files::cannot("create", directory))
}

fn remove_file(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(files::cannot("remove", file)),
    }
}

fn lock(directory: &Path) -> Result<File> {
    let file = File::open(directory).with_context(files::cannot("read", directory))?;
    file.lock().with_context(files::cannot("lock", directory))?;
    Ok(file)
}

fn make_authorities(ca: &Path, now: OffsetDateTime) -> Result<()> {
    // Two PKIs that share a name look like one with a wrong signature, which is hard to understand.
    let tag = Serial::random().to_string();
    let tag: String = tag.chars().skip(2).take(8).collect();
    let name = |role| format!("Countersign development {role} {tag}");
    let root = Authority::root(&name("root"), Validity::starting(now, ROOT_LIFETIME)?)?;
    let validity = Validity::starting(now, ISSUING_LIFETIME)?;
    let issuing = root.issuing(&name("issuing CA"), validity)?;
    let mut batch = Batch::default();
    for (name, authority) in [("root", &root), ("issuing", &issuing)] {
        let (key, certificate) = (authority.key_pem(), authority.certificate_pem());
        batch.stage(&ca.join(format!("{name}.key")), key, Secrecy::Private)?;
        batch.stage(
            &ca.join(format!("{name}.crt")),
            certificate,
            Secrecy::Public,
        )?;
    }
    batch.create()
}
