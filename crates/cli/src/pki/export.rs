//! `pki export`: an identity in the forms that other programs read.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rcgen::KeyPair;

use super::certificate::Certificate;
use super::credentials::Credentials;
use super::files::{self, Batch, Secrecy};
use super::pkcs12::{self, Encoding, Password};
use super::{Directory, IdentityName, operations, stores};
use crate::text::Printable;

/// Exports an identity in the formats of other programs, and shows the commands that import it into their stores and
/// remove it again.
///
/// It overwrites existing files. Only their owner can read files that hold a key.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The identity to export.
    name: IdentityName,
    /// PKCS#12 with AES-256: for OpenSSL 3, Java 17, NSS (Chromium, Firefox) and Windows.
    #[arg(long, value_name = "FILE")]
    p12: Option<PathBuf>,
    /// PKCS#12 with triple DES: for the macOS keychain and older programs, and read by the newer ones too.
    #[arg(long, value_name = "FILE")]
    p12_compatible: Option<PathBuf>,
    /// The root as a Java truststore (PKCS#12).
    #[arg(long, value_name = "FILE")]
    truststore: Option<PathBuf>,
    /// Key and chain in one PEM file.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The chain as PEM: the leaf, then the issuing authority.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// The password of the PKCS#12 files [default: a random one, which is shown]. Other users may see it while this runs.
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Reads the password from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
}

pub(super) fn run(
    dir: &Path,
    directory: &Directory,
    export: &Export,
    out: &mut dyn Write,
) -> Result<()> {
    let (credentials, leaf) = operations::leaf(directory, &export.name)?;
    let written = write(dir, export, &credentials, &leaf, out)?;
    if written || export.asks_for_nothing() {
        let name = &export.name;
        let file = |file: &Option<PathBuf>, otherwise: String| {
            file.clone().unwrap_or_else(|| PathBuf::from(otherwise))
        };
        let files = stores::Files {
            modern: &file(&export.p12, format!("{name}.p12")),
            compatible: &file(&export.p12_compatible, format!("{name}-compatible.p12")),
            root: &dir.join(name.as_str()).join("ca.crt"),
            leaf: leaf.der(),
        };
        stores::commands(&files, out)?;
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

    fn password(&self) -> Result<Option<Password>> {
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
    leaf: &Certificate,
    out: &mut dyn Write,
) -> Result<bool> {
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
        ensure!(
            !is_within(target, &dir.join("ca")),
            "{} is among the files of the authority; write it elsewhere",
            target.display()
        );
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
            let key = key_of(credentials, leaf)?.serialize_der();
            let bytes = pkcs12::identity(name.as_str(), &key, chain_pem, encoding, &password)?;
            stage(file, &bytes, Secrecy::Private, what)?;
        }
    }
    let root_pem = files::read(&dir.join(name.as_str()).join("ca.crt"))?;
    if let Some(file) = truststore {
        let bytes = pkcs12::truststore("root", &root_pem, &password)?;
        stage(
            file,
            &bytes,
            Secrecy::Public,
            "the root as a Java truststore",
        )?;
    }
    if let Some(file) = bundle {
        key_of(credentials, leaf)?;
        let both = format!("{}{chain_pem}", credentials.key_pem);
        stage(file, both.as_bytes(), Secrecy::Private, "key, then chain")?;
    }
    if let Some(file) = chain {
        stage(file, chain_pem.as_bytes(), Secrecy::Public, "the chain")?;
    }
    batch.replace(None)?;
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
fn key_of(credentials: &Credentials, leaf: &Certificate) -> Result<KeyPair> {
    ensure!(
        credentials.request.is_none() || !credentials.key_pem.is_empty(),
        "its key is not here: the sender of the signing request has it; --chain and --truststore need none"
    );
    credentials
        .key_of(leaf)
        .context("its tls.key is missing, or not the key of its certificate")
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
