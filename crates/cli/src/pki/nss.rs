//! The certificate database of NSS, which Chromium and Firefox read on Linux: import into it and removal from it, by
//! NSS's own programs.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pki_types::CertificateDer;
use pki_types::pem::PemObject as _;

use super::certificate::{Certificate, Names};
use super::files::{Batch, FileError, Secrecy};
use super::pkcs12::Password;

/// A database, which may not be there yet.
#[derive(Debug)]
pub(super) struct Database(PathBuf);

impl Database {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The one of this user: an existing `~/.pki/nssdb` wins over the place that newer versions of Chromium choose.
    pub(super) fn of_user() -> Result<Self, NssError> {
        let home = std::env::home_dir().ok_or(NssError::NoHome)?;
        let old = home.join(".pki/nssdb");
        Ok(Self(if old.is_dir() {
            old
        } else {
            home.join(".local/share/pki/nssdb")
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Imports a key with its chain, in place of what is there for the same names. Gives the nickname.
    ///
    /// NSS keeps certificates of one subject under one nickname, by which alone they can be removed, so that another
    /// one of the same subject must not be there.
    pub(super) fn install(
        &self,
        leaf: &Certificate<'_>,
        pkcs12: &[u8],
        password: &Password,
    ) -> Result<String, NssError> {
        self.create()?;
        self.remove(leaf)?;
        if let Some(other) = { self.held()? }
            .into_iter()
            .find(|held| held.has_subject_of(leaf))
        {
            return Err(NssError::SameSubject(other.nickname));
        }
        let scratch = Scratch::new(&self.0)?;
        let (file, secret) = (scratch.0.join("import.p12"), scratch.0.join("password"));
        let mut batch = Batch::default();
        batch.stage(&file, pkcs12, Secrecy::Private)?;
        batch.stage(&secret, password.as_str().as_bytes(), Secrecy::Private)?;
        batch.create()?;
        let mut import = self.program("pk12util");
        run(import.arg("-i").arg(&file).arg("-w").arg(&secret))?;
        let found = { self.held()? }.into_iter().find(|held| held.is_for(leaf));
        found.map(|held| held.nickname).ok_or(NssError::Vanished)
    }

    /// Removes every certificate of the same subject and names, with its key. Says whether there was any.
    pub(super) fn remove(&self, leaf: &Certificate<'_>) -> Result<bool, NssError> {
        let held = self.held()?;
        let (ours, others): (Vec<_>, Vec<_>) = held
            .into_iter()
            .filter(|held| held.has_subject_of(leaf))
            .partition(|held| held.is_for(leaf));
        if let (false, Some(other)) = (ours.is_empty(), others.first()) {
            return Err(NssError::SameSubject(other.nickname.clone()));
        }
        for held in &ours {
            let delete = |how| run(self.program("certutil").args([how, "-n", &held.nickname]));
            // A certificate whose key is gone is deleted by -D alone.
            delete("-F").or_else(|_no_key| delete("-D"))?;
        }
        Ok(!ours.is_empty())
    }

    /// Trusts a root for servers and for clients.
    pub(super) fn trust(&self, nickname: &str, root: &Path) -> Result<(), NssError> {
        self.create()?;
        let mut add = self.program("certutil");
        run(add
            .args(["-A", "-t", "CT,,", "-n", nickname, "-i"])
            .arg(root))
    }

    /// Removes a root. Says whether it was there.
    pub(super) fn distrust(&self, nickname: &str) -> Result<bool, NssError> {
        if !self.nicknames()?.iter().any(|known| known == nickname) {
            return Ok(false);
        }
        run(self.program("certutil").args(["-D", "-n", nickname]))?;
        Ok(true)
    }

    /// Every certificate that can be read.
    fn held(&self) -> Result<Vec<Held>, NssError> {
        let mut held = Vec::new();
        for nickname in self.nicknames()? {
            let pem = output(self.program("certutil").args(["-L", "-a", "-n", &nickname]))?;
            for der in CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok) {
                if let Ok(certificate) = Certificate::from_der(&der) {
                    held.push(Held {
                        nickname: nickname.clone(),
                        subject: certificate.subject().ok(),
                        names: certificate.names().clone(),
                    });
                }
            }
        }
        Ok(held)
    }

    /// The first column of `certutil -L`; the last is the trust, such as `u,u,u` or `,,`.
    fn nicknames(&self) -> Result<BTreeSet<String>, NssError> {
        if !self.0.join("cert9.db").exists() {
            return Ok(BTreeSet::new());
        }
        let table = output(self.program("certutil").arg("-L"))?;
        let nickname = |line: &str| {
            let (nickname, trust) = line.trim_end().rsplit_once(' ')?;
            let is_trust = |c: char| c == ',' || c.is_ascii_alphabetic();
            (trust.matches(',').count() == 2 && trust.chars().all(is_trust))
                .then(|| nickname.trim_end().to_owned())
        };
        Ok(String::from_utf8_lossy(&table)
            .lines()
            .filter(|line| !line.contains("SSL,S/MIME,JAR/XPI"))
            .filter_map(nickname)
            .collect())
    }

    fn create(&self) -> Result<(), NssError> {
        if self.0.join("cert9.db").exists() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(FileError::new("create", &self.0))?;
        run(self.program("certutil").args(["-N", "--empty-password"]))
    }

    /// With nobody to ask for a password: a database that has one is for its owner to change.
    fn program(&self, name: &'static str) -> Command {
        let mut database = std::ffi::OsString::from("sql:");
        database.push(&self.0);
        let mut command = Command::new(name);
        command.arg("-d").arg(database).stdin(Stdio::null());
        command
    }
}

/// A directory of our own that goes away with what is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(beside: &Path) -> Result<Self, FileError> {
        let path = beside.join(format!(".{}.tmp", uuid::Uuid::new_v4()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(FileError::new("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It holds a key that is elsewhere too, for its owner's eyes alone.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A certificate in the database.
struct Held {
    nickname: String,
    subject: Option<String>,
    names: Names,
}

impl Held {
    fn has_subject_of(&self, leaf: &Certificate<'_>) -> bool {
        self.subject.is_some() && self.subject == leaf.subject().ok()
    }

    fn is_for(&self, leaf: &Certificate<'_>) -> bool {
        self.has_subject_of(leaf) && self.names == *leaf.names()
    }
}

fn run(command: &mut Command) -> Result<(), NssError> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<Vec<u8>, NssError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| NssError::NotStarted {
        program: program.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(NssError::Failed {
        program,
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Why the database is as it was, or is changed in part.
#[derive(Debug, thiserror::Error)]
pub enum NssError {
    /// It is not known whose database it would be.
    #[error("there is no home directory to look for a database in; give one with --nss-db")]
    NoHome,
    /// A file of ours cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another certificate would share the nickname, and be removed by it.
    #[error(
        "NSS keeps certificates of one subject together, and {0:?} there has the same one; remove that first, give \
         another --nss-db, or issue the certificate with a --subject of its own"
    )]
    SameSubject(String),
    /// The import said that all was well.
    #[error("the certificate is not in the database after its import")]
    Vanished,
    /// NSS's programs are not there.
    #[error("cannot run {program}; it is in Debian's package libnss3-tools")]
    NotStarted {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// One of them refused.
    #[error("{program} failed: {said}")]
    Failed {
        /// The program.
        program: String,
        /// What it said.
        said: String,
    },
}
