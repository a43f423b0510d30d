//! `pki export`: an identity in the forms that other programs read, and the way into and out of their stores.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{KeyPair, PublicKeyData as _};

use super::certificate::Certificate;
use super::command::PkiError;
use super::files::{self, Batch, Secrecy};
use super::nss::NssError;
use super::operations;
use super::pkcs12::{self, Encoding, InvalidPassword, Password, Pkcs12Error};
use super::{Credentials, Directory, FileError, IdentityName, install};
use crate::text::Printable;

/// Writes an identity in the forms that other programs read, and says how it gets into and out of their stores.
///
/// What is written replaces what is there. Files that hold a key are readable by their owner alone.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Whose certificate.
    pub(super) name: IdentityName,
    /// PKCS#12 with AES-256: for OpenSSL 3, Java 17, NSS (Chromium, Firefox) and Windows.
    #[arg(long, value_name = "FILE")]
    pub(super) p12: Option<PathBuf>,
    /// PKCS#12 with triple DES: for the macOS keychain and older programs, and read by the newer ones too.
    #[arg(long, value_name = "FILE")]
    pub(super) p12_compatible: Option<PathBuf>,
    /// The root as a Java truststore (PKCS#12).
    #[arg(long, value_name = "FILE")]
    truststore: Option<PathBuf>,
    /// Key and chain in one PEM file.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The chain as PEM: the leaf, then the issuing authority.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// The password of the PKCS#12 files [default: a random one, which is shown]. Others may see it while this runs.
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// The password is the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// Imports the certificate into the NSS database, where Chromium finds it, in place of the one before.
    #[arg(long, conflicts_with = "remove_nss")]
    pub(super) install_nss: bool,
    /// Removes it from there, with its key.
    #[arg(long)]
    pub(super) remove_nss: bool,
    /// Trusts the root there too, or no longer. Who has its key can then be any web site to this browser.
    #[arg(long)]
    pub(super) nss_root: bool,
    /// The NSS database [default: ~/.pki/nssdb if there, or else ~/.local/share/pki/nssdb].
    #[arg(long, value_name = "DIR")]
    pub(super) nss_db: Option<PathBuf>,
}

pub(super) fn run(
    dir: &Path,
    directory: &Directory,
    export: &Export,
    out: &mut dyn Write,
) -> Result<(), PkiError> {
    let credentials = operations::credentials(directory, &export.name)?;
    let written = write(dir, export, &credentials, out)?;
    let nss_was_asked = export.install_nss || export.remove_nss || export.nss_root;
    if nss_was_asked {
        install::in_nss(dir, export, &credentials, out)?;
    } else if written || export.asks_for_nothing() {
        install::commands(export, &credentials, out)?;
    }
    Ok(())
}

impl Export {
    fn asks_for_nothing(&self) -> bool {
        let files = [
            &self.p12,
            &self.p12_compatible,
            &self.truststore,
            &self.bundle,
            &self.chain,
        ];
        files.iter().all(|file| file.is_none())
    }

    fn password(&self) -> Result<Option<Password>, ExportError> {
        let given = match (&self.password, &self.password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => files::read(file)?.lines().next().map(str::to_owned),
            (None, None) => return Ok(None),
        };
        Ok(Some(Password::new(&given.unwrap_or_default())?))
    }
}

/// Writes the files, all of them or none. Says whether a PKCS#12 file with a key was among them.
fn write(
    dir: &Path,
    export: &Export,
    credentials: &Credentials,
    out: &mut dyn Write,
) -> Result<bool, PkiError> {
    let Export {
        name,
        p12,
        p12_compatible,
        truststore,
        bundle,
        chain,
        ..
    } = export;
    let given = export.password()?;
    let password = given.clone().unwrap_or_else(Password::random);
    let chain_pem = &*credentials.chain_pem;
    let mut batch = Batch::default();
    let mut lines = Vec::new();
    let mut stage = |target: &Path, contents: &[u8], secrecy, what| {
        if is_within(target, &dir.join("ca")) {
            return Err(ExportError::Authority(target.to_owned()));
        }
        batch.stage(target, contents, secrecy)?;
        lines.push(format!(
            "{name:<16} wrote {}: {what}",
            Printable(target.display())
        ));
        Ok(())
    };
    for (file, encoding, what) in [
        (p12, Encoding::Modern, "PKCS#12, AES-256 and HMAC-SHA-256"),
        (
            p12_compatible,
            Encoding::Compatible,
            "PKCS#12, triple DES and HMAC-SHA-1",
        ),
    ] {
        if let Some(file) = file {
            let key = key_of(credentials)?.serialize_der();
            let bytes = pkcs12::identity(name.as_str(), &key, chain_pem, encoding, &password)
                .map_err(ExportError::from)?;
            stage(file, &bytes, Secrecy::Private, what)?;
        }
    }
    let root_pem = files::read(&dir.join(name.as_str()).join("ca.crt"))?;
    if let Some(file) = truststore {
        let bytes = pkcs12::truststore("root", &root_pem, &password).map_err(ExportError::from)?;
        stage(
            file,
            &bytes,
            Secrecy::Public,
            "the root as a Java truststore",
        )?;
    }
    if let Some(file) = bundle {
        key_of(credentials)?;
        let both = format!("{}{chain_pem}", credentials.key_pem);
        stage(file, both.as_bytes(), Secrecy::Private, "key, then chain")?;
    }
    if let Some(file) = chain {
        stage(file, chain_pem.as_bytes(), Secrecy::Public, "the chain")?;
    }
    batch.replace()?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    let encrypted = p12.is_some() || p12_compatible.is_some();
    if given.is_none() && (encrypted || truststore.is_some()) {
        writeln!(out, "{name:<16} the password is {}", password.as_str())?;
    }
    Ok(encrypted)
}

/// The key, if it is here and that of the certificate.
pub(super) fn key_of(credentials: &Credentials) -> Result<KeyPair, ExportError> {
    if credentials.request.is_some() && credentials.key_pem.is_empty() {
        return Err(ExportError::KeyElsewhere);
    }
    let der = operations::leaf_of(credentials).map_err(ExportError::Malformed)?;
    let leaf = Certificate::from_der(&der).map_err(ExportError::Malformed)?;
    KeyPair::from_pem(&credentials.key_pem)
        .ok()
        .filter(|key| key.subject_public_key_info() == leaf.public_key())
        .ok_or(ExportError::Key)
}

/// Whether a file would lie in a directory, by whatever path.
fn is_within(file: &Path, directory: &Path) -> bool {
    let parent = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return true,
    };
    match (parent.canonicalize(), directory.canonicalize()) {
        (Ok(parent), Ok(directory)) => parent == directory,
        (Ok(_) | Err(_), _) => false,
    }
}

/// Why nothing, or not all, was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The password is not one.
    #[error(transparent)]
    Password(#[from] InvalidPassword),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The target is among the files of the authority, which are never overwritten.
    #[error("{} is among the files of the authority; write it elsewhere", .0.display())]
    Authority(PathBuf),
    /// The key is with whoever made the signing request.
    #[error(
        "its key is not here but with whoever sent the signing request; --chain and --truststore need none"
    )]
    KeyElsewhere,
    /// The key is missing, encrypted, or that of another certificate.
    #[error("its tls.key is missing, or not the key of its certificate")]
    Key,
    /// The certificate is malformed.
    #[error("tls.crt: {0}")]
    Malformed(super::certificate::Malformed),
    /// PKCS#12 cannot say it.
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
    /// NSS's programs failed.
    #[error(transparent)]
    Nss(#[from] NssError),
}
