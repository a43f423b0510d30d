//! `pki export`: an identity in the forms that other programs read.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rcgen::KeyPair;

use super::certificate::Certificate;
use super::credentials::Credentials;
use super::files::{self, Batch, Secrecy};
use super::pkcs12::{self, Encoding};
use super::{Directory, IdentityName, stores};
use crate::text::Printable;

/// Export an identity in the formats of other programs, and show the commands that import it into their stores and
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

impl Export {
    pub(super) fn run(&self, dir: &Path, directory: &Directory, out: &mut dyn Write) -> Result<()> {
        let name = &self.name;
        let (credentials, leaf) = directory.leaf(name)?;
        let root = dir.join(name.as_str()).join("ca.crt");
        let given = self.password()?;
        let password = given.clone().unwrap_or_else(pkcs12::random_password);
        let files = self.files(&credentials, &leaf, &files::read(&root)?, &password)?;
        write(&files, &dir.join("ca"))?;
        for file in &files {
            let (path, what) = (Printable(file.path.display()), file.what);
            writeln!(out, "{name:<16} wrote {path}: {what}")?;
        }
        let with_key = self.p12.is_some() || self.p12_compatible.is_some();
        if given.is_none() && (with_key || self.truststore.is_some()) {
            writeln!(out, "{name:<16} the password is {password}")?;
        }
        if with_key || files.is_empty() {
            let or_named = |file: &Option<PathBuf>, end: &str| {
                file.clone()
                    .unwrap_or_else(|| format!("{name}{end}").into())
            };
            let files = stores::ExportedFiles {
                modern: &or_named(&self.p12, ".p12"),
                compatible: &or_named(&self.p12_compatible, "-compatible.p12"),
                root: &root,
                leaf: &leaf.der,
            };
            stores::commands(&files, out)?;
        }
        Ok(())
    }

    fn password(&self) -> Result<Option<String>> {
        let given = match (&self.password, &self.password_file) {
            (None, Some(file)) => {
                let text = files::read(file)?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            (given, _) => given.clone(),
        };
        given.as_deref().map_or(Ok(()), pkcs12::check_password)?;
        Ok(given)
    }

    /// What is asked for, not yet written.
    fn files(
        &self,
        credentials: &Credentials,
        leaf: &Certificate,
        root_pem: &str,
        password: &str,
    ) -> Result<Vec<Exported<'_>>> {
        let (name, chain_pem) = (self.name.as_str(), &credentials.chain_pem);
        let mut files = Vec::new();
        let mut add = |path, contents, secrecy, what| {
            files.push(Exported {
                path,
                contents,
                secrecy,
                what,
            });
        };
        for (path, encoding, what) in [
            (
                &self.p12,
                Encoding::Modern,
                "PKCS#12, AES-256 and HMAC-SHA-256",
            ),
            (
                &self.p12_compatible,
                Encoding::Compatible,
                "PKCS#12, triple DES and HMAC-SHA-1",
            ),
        ] {
            if let Some(path) = path {
                let key = key_of(credentials, leaf)?.serialize_der();
                let bytes = pkcs12::identity(name, &key, chain_pem, encoding, password)?;
                add(path, bytes, Secrecy::Private, what);
            }
        }
        if let Some(path) = &self.truststore {
            let bytes = pkcs12::truststore("root", root_pem, password)?;
            add(
                path,
                bytes,
                Secrecy::Public,
                "the root as a Java truststore",
            );
        }
        if let Some(path) = &self.bundle {
            key_of(credentials, leaf)?;
            let both = format!("{}{chain_pem}", credentials.key_pem).into_bytes();
            add(path, both, Secrecy::Private, "key, then chain");
        }
        if let Some(path) = &self.chain {
            add(path, chain_pem.clone().into(), Secrecy::Public, "the chain");
        }
        Ok(files)
    }
}

/// A file to write, and what it is.
struct Exported<'a> {
    path: &'a Path,
    contents: Vec<u8>,
    secrecy: Secrecy,
    what: &'static str,
}

/// Writes the files, all of them or none.
fn write(files: &[Exported<'_>], authority: &Path) -> Result<()> {
    let mut batch = Batch::default();
    for file in files {
        ensure!(
            !is_within(file.path, authority),
            "{} is among the files of the CA; write it elsewhere",
            file.path.display()
        );
        batch.stage(file.path, &file.contents, file.secrecy)?;
    }
    batch.replace_as_ours()
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
