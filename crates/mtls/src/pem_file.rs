//! A file of certificates, revocation lists or a key: read whole, taken apart, and blamed by its path.
//!
//! Never a judgement about what is in it, never a guess: what another tool would have to convert is named.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crl::system_time;
use crate::crypto::{self, Digest};
use crate::invalid::InvalidCredentials;
use crate::text;
use crate::verify::Root;

/// A file larger than this is no credential (1 MiB).
const MAX_FILE: u64 = 1 << 20;

/// A file of revocation lists larger than this is none (16 MiB; a list of 100,000 entries has about 5 MiB).
const MAX_LISTS: u64 = 16 << 20;

/// The bytes of one file, and its path for messages.
#[derive(Clone)]
pub struct PemFile {
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

impl PemFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is missing, not readable by this user, not a regular file, or larger than 1 MiB.
    pub fn read(path: &Path) -> Result<Self, Unreadable> {
        Self::read_at_most(path, MAX_FILE)
    }

    /// Reads a file of revocation lists, which may be larger than others.
    ///
    /// # Errors
    /// As [`PemFile::read`], with 16 MiB in place of 1 MiB.
    pub fn read_lists(path: &Path) -> Result<Self, Unreadable> {
        Self::read_at_most(path, MAX_LISTS)
    }

    fn read_at_most(path: &Path, max: u64) -> Result<Self, Unreadable> {
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
            .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > max {
            return Err(unreadable(io::Error::other(format!(
                "larger than {max} bytes, so it is no credential file"
            ))));
        }
        Ok(Self::new(path, bytes))
    }

    /// What is not in a file, with a name to blame.
    pub fn new(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            bytes,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        crypto::digest([&*self.bytes])
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificates, in order; anything between them is commentary (RFC 7468 §2).
    ///
    /// # Errors
    /// When the file is not PEM or holds no certificate.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, InvalidCredentials> {
        self.sections("certificate", "openssl x509 -inform DER -in … -out …")
    }

    /// The certificates of a chain: each can be read, and names the one after it as its issuer.
    ///
    /// # Errors
    /// As [`PemFile::certificates`], or the place at which the chain breaks.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, InvalidCredentials> {
        let chain = self.certificates()?;
        let mut parsed = Vec::with_capacity(chain.len());
        for (index, der) in chain.iter().enumerate() {
            parsed.push(EndEntityCert::try_from(der).map_err(|e| {
                InvalidCredentials::Certificate {
                    path: self.path.clone(),
                    position: index + 1,
                    reason: text::of_unreadable(der, &e),
                }
            })?);
        }
        let mismatch = parsed.windows(2).position(|pair| match pair {
            [cert, issuer] => cert.issuer() != issuer.subject(),
            _ => false,
        });
        match mismatch {
            None => Ok(chain),
            Some(index) => Err(InvalidCredentials::ChainOrder {
                path: self.path.clone(),
                position: index + 1,
            }),
        }
    }

    pub(crate) fn roots(&self) -> Result<Vec<Root>, InvalidCredentials> {
        let root = |(index, der): (usize, CertificateDer<'static>)| {
            let unusable = |reason| InvalidCredentials::Certificate {
                path: self.path.clone(),
                position: index + 1,
                reason,
            };
            let anchor = webpki::anchor_from_trusted_cert(&der)
                .map_err(|e| unusable(text::of_unreadable(&der, &e)))?
                .to_owned();
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|e| unusable(e.to_string()))?;
            let validity = certificate.validity();
            Ok(Root {
                not_before: system_time(validity.not_before),
                not_after: system_time(validity.not_after),
                der: der.clone(),
                anchor,
            })
        };
        self.certificates()?
            .into_iter()
            .enumerate()
            .map(root)
            .collect()
    }

    pub(crate) fn revocation_lists(
        &self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, InvalidCredentials> {
        self.sections("revocation list", "openssl crl -inform DER -in … -out …")
    }

    /// The one key, in PKCS#8, SEC1 or PKCS#1.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, InvalidCredentials> {
        self.not_binary("openssl pkey -inform DER -in … -out …")?;
        let contains = |needle: &[u8]| {
            self.bytes
                .windows(needle.len())
                .any(|window| window == needle)
        };
        if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
            return Err(InvalidCredentials::EncryptedKey {
                path: self.path.clone(),
            });
        }
        let keys = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(self.text())
            .filter_map(|section| {
                section
                    .map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| self.malformed_pem(&e))?;
        let [key] = <[_; 1]>::try_from(keys).map_err(|keys| match keys.len() {
            0 => self.missing("private key"),
            n => InvalidCredentials::UnusableKey {
                path: self.path.clone(),
                reason: format!("it has {n} keys, and one is needed"),
            },
        })?;
        Ok(key)
    }

    fn sections<T: PemObject>(
        &self,
        what: &'static str,
        command: &'static str,
    ) -> Result<Vec<T>, InvalidCredentials> {
        self.not_binary(command)?;
        let items = T::pem_slice_iter(self.text())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| self.malformed_pem(&e))?;
        if items.is_empty() {
            return Err(self.missing(what));
        }
        Ok(items)
    }

    /// Without the mark that some editors begin a file with: it would hide the first section.
    fn text(&self) -> &[u8] {
        self.bytes
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&self.bytes)
    }

    /// Names what is not text, by its first bytes, and the command that makes PEM of it.
    fn not_binary(&self, command: &'static str) -> Result<(), InvalidCredentials> {
        let (form, command) = match self.bytes[..] {
            // A PFX begins with its version, 3 (RFC 7292 §4).
            [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => {
                ("PKCS#12", "openssl pkcs12 -in … -nodes -out …")
            }
            [0xfe, 0xed, 0xfe, 0xed, ..] => (
                "a Java keystore",
                "keytool -importkeystore -srckeystore … -destkeystore ….p12 -deststoretype PKCS12",
            ),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("UTF-16", "iconv -f UTF-16 -t ASCII"),
            [0x30, 0x81..=0x84, ..] | [0x30, _, 0x02, 0x01, ..] => ("DER", command),
            _ => return Ok(()),
        };
        Err(InvalidCredentials::Binary {
            path: self.path.clone(),
            form,
            command,
        })
    }

    fn malformed_pem(&self, error: &pem::Error) -> InvalidCredentials {
        InvalidCredentials::Pem {
            path: self.path.clone(),
            reason: text::of_pem(error),
        }
    }

    fn missing(&self, what: &'static str) -> InvalidCredentials {
        InvalidCredentials::Missing {
            path: self.path.clone(),
            what,
            found: labels(self.text()),
        }
    }
}

/// Never the bytes: they may be a key.
impl std::fmt::Debug for PemFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What the file does hold, for whoever mixed two files up: the first labels of its sections.
fn labels(text: &[u8]) -> Vec<String> {
    /// More than these are not worth a longer line.
    const SHOWN: usize = 3;
    let label = |line: &[u8]| {
        let label = line.strip_prefix(b"-----BEGIN ")?;
        let label = label.trim_ascii_end().strip_suffix(b"-----")?;
        let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ';
        (label.len() <= 40 && label.iter().all(plain))
            .then(|| String::from_utf8_lossy(label).into_owned())
    };
    text.split(|b| *b == b'\n')
        .filter_map(label)
        .take(SHOWN)
        .collect()
}
