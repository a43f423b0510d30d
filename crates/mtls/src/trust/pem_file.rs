//! A file of certificates, revocation lists or a key. Errors name its path, and the command that converts another
//! format.

use std::fmt;
use std::path::{Path, PathBuf};

use base::pem::{self, Label, Section};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::codes;
use crate::crypto::{self, Digest};
use crate::text;
use crate::trust::crl::system_time;
use crate::trust::invalid::InvalidCredentials;
use crate::trust::issuers;
use crate::trust::name_constraints;
use crate::trust::names;
use crate::trust::root::{Root, Vouches};

/// A larger file is refused (1 MiB).
const MAX_FILE: u64 = 1 << 20;

/// A larger file of revocation lists is refused (16 MiB; a list of 100,000 entries has about 5 MiB).
const MAX_LISTS: u64 = 16 << 20;

/// The bytes of one file, which are wiped on drop since they may be a key, and its path for messages.
#[derive(Clone)]
pub struct PemFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Sections that came as DER, so that there is no text to parse; `bytes` are then those of all sections.
    decoded: Option<Vec<Section>>,
}

impl PemFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is missing, not readable by this user, not a regular file, or larger than 1 MiB.
    pub fn read(path: &Path) -> Result<Self, InvalidCredentials> {
        Self::read_at_most(path, MAX_FILE)
    }

    /// Reads a file of revocation lists, which may be larger than others.
    ///
    /// # Errors
    /// As [`PemFile::read`], with 16 MiB in place of 1 MiB.
    pub fn read_lists(path: &Path) -> Result<Self, InvalidCredentials> {
        Self::read_at_most(path, MAX_LISTS)
    }

    fn read_at_most(path: &Path, max: u64) -> Result<Self, InvalidCredentials> {
        let bytes = base::file::read(path, max)
            .map_err(|error| InvalidCredentials::unreadable(path, error))?;
        Ok(Self::new(path, bytes))
    }

    /// Text that is not from a file, with the name of its origin.
    pub fn new(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            bytes: bytes.into(),
            decoded: None,
        }
    }

    /// DER from elsewhere than a file, with the name of its origin.
    pub(crate) fn of_der(
        name: String,
        label: &Label,
        ders: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        let section = |(index, der): (usize, Vec<u8>)| Section {
            line: index + 1,
            name: String::new(),
            label: label.clone(),
            der: der.into(),
        };
        let sections: Vec<_> = ders.into_iter().enumerate().map(section).collect();
        let parts: Vec<&[u8]> = sections.iter().map(|it| it.der.as_slice()).collect();
        Self {
            path: name.into(),
            bytes: parts.concat().into(),
            decoded: Some(sections),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        crypto::digest([self.bytes.as_slice()])
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificates of a chain, in order. A key may stand beside them, as in a bundle; what is between the sections
    /// is commentary (RFC 7468 §2), unless it looks like a section.
    ///
    /// # Errors
    /// When the file is not PEM, holds no certificate, or holds what cannot be read or is not expected in it.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, InvalidCredentials> {
        let sections = self.sections(Contents::Chain)?.into_iter();
        Ok(sections
            .filter(|section| section.label == Label::Certificate)
            .map(|section| CertificateDer::from(section.into_der()))
            .collect())
    }

    /// The certificates of a chain: each can be read, and names the one after it as its issuer.
    ///
    /// # Errors
    /// As [`PemFile::certificates`], or the place at which the chain breaks.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, InvalidCredentials> {
        let chain = self.certificates()?;
        let mut parsed = Vec::with_capacity(chain.len());
        for (index, der) in chain.iter().enumerate() {
            let certificate = EndEntityCert::try_from(der);
            parsed
                .push(certificate.map_err(|e| self.unusable(index, text::of_unreadable(der, &e)))?);
        }
        let mismatch = parsed.windows(2).position(|pair| match pair {
            [cert, issuer] => names::canonical(cert.issuer()) != names::canonical(issuer.subject()),
            _ => false,
        });
        match mismatch {
            None => Ok(chain),
            Some(index) => Err(InvalidCredentials::new(
                codes::CHAIN_OUT_OF_ORDER,
                format!(
                    "certificate {} in {} was not issued by the next one: the order is leaf, then each issuer",
                    index + 1,
                    self.path.display()
                ),
            )),
        }
    }

    /// The certificate at this index cannot be used.
    fn unusable(&self, index: usize, reason: impl fmt::Display) -> InvalidCredentials {
        let (position, path) = (index + 1, self.path.display());
        let text = format!("certificate {position} in {path} is not usable: {reason}");
        InvalidCredentials::new(codes::CERTIFICATE_MALFORMED, text)
    }

    pub(crate) fn roots(&self, vouches: &Vouches) -> Result<Vec<Root>, InvalidCredentials> {
        let root = |(index, der): (usize, CertificateDer<'static>)| {
            let (shown, subtrees) = name_constraints::retagged(&der).unzip();
            let shown = shown.map_or_else(|| der.clone(), CertificateDer::from);
            let anchor = webpki::anchor_from_trusted_cert(&shown)
                .map_err(|e| self.unusable(index, text::of_unreadable(&der, &e)))?
                .to_owned();
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|e| self.unusable(index, e))?;
            issuers::check_root(&certificate).map_err(|reason| self.unusable(index, reason))?;
            let validity = certificate.validity();
            Ok(Root {
                vouches: vouches.clone(),
                not_before: system_time(validity.not_before),
                not_after: system_time(validity.not_after),
                der: der.clone(),
                anchor,
                subtrees,
            })
        };
        self.sections(Contents::Roots)?
            .into_iter()
            .map(|section| CertificateDer::from(section.into_der()))
            .enumerate()
            .map(root)
            .collect()
    }

    /// The revocation lists, in order.
    ///
    /// # Errors
    /// When the file is not PEM, holds no list, or holds something else.
    pub fn revocation_lists(
        &self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, InvalidCredentials> {
        let sections = self.sections(Contents::RevocationLists)?.into_iter();
        Ok(sections
            .map(|section| CertificateRevocationListDer::from(section.into_der()))
            .collect())
    }

    /// The one key, in PKCS#8, SEC1 or PKCS#1. Certificates may stand beside it, as in a bundle.
    ///
    /// # Errors
    /// When the file is not PEM, holds no key or several, or one under a passphrase.
    pub fn private_key(&self) -> Result<Zeroizing<PrivateKeyDer<'static>>, InvalidCredentials> {
        let mut keys = Vec::new();
        for section in self.sections(Contents::Key)? {
            match section.label {
                Label::PrivateKey(kind) => {
                    let key = PrivateKeyDer::from_pem(kind, section.into_der());
                    keys.extend(key.map(Zeroizing::new));
                }
                Label::EncryptedPrivateKey => {
                    let text = format!(
                        "{} is an encrypted private key: decrypt it with `openssl pkey -in … -out …`",
                        self.path.display()
                    );
                    return Err(InvalidCredentials::new(codes::KEY_ENCRYPTED, text));
                }
                Label::Certificate
                | Label::RevocationList
                | Label::SigningRequest
                | Label::EcParameters
                | Label::Other(_) => {}
            }
        }
        let [key] = <[_; 1]>::try_from(keys).map_err(|keys| {
            self.unusable_key(format!("it has {} keys, and one is needed", keys.len()))
        })?;
        Ok(key)
    }

    /// The key is of a kind or form that is not supported, or there are several.
    pub(crate) fn unusable_key(&self, reason: impl fmt::Display) -> InvalidCredentials {
        let text = format!(
            "{} holds no usable private key: {reason}",
            self.path.display()
        );
        InvalidCredentials::new(codes::KEY_UNUSABLE, text)
    }

    /// All sections. At least one is of the kind that the file is for, and each is allowed in it.
    fn sections(&self, contents: Contents) -> Result<Vec<Section>, InvalidCredentials> {
        /// More labels than these are not worth a longer line.
        const SHOWN: usize = 3;
        if let Some(sections) = &self.decoded {
            return Ok(sections.clone());
        }
        let path = self.path.display();
        if let Some((form, command)) = pem::binary(&self.bytes, contents.conversion()) {
            let text = format!("{path} is {form}, not PEM: convert it with `{command}`");
            return Err(InvalidCredentials::new(codes::CREDENTIALS_NOT_PEM, text));
        }
        let sections = pem::sections(&self.bytes).map_err(|fault| {
            let (line, reason) = (fault.line, fault.reason);
            let text = format!("{path} is not well-formed PEM: line {line}: {reason}");
            InvalidCredentials::new(codes::PEM_MALFORMED, text)
        })?;
        let is_empty = !sections.iter().any(|it| contents.is_for(&it.label));
        let unexpected = sections.iter().find(|it| !contents.admits(&it.label));
        match unexpected {
            Some(section) if !is_empty || advice(&section.name).is_some() => {
                let (line, label) = (section.line, &section.name);
                let advice = advice(label).unwrap_or("move it to its own file");
                let text =
                    format!("{path}, line {line}: a section of {label} is not read here: {advice}");
                Err(InvalidCredentials::new(codes::PEM_UNEXPECTED, text))
            }
            Some(_) | None if is_empty => {
                let found: Vec<_> = sections.iter().map(|it| &*it.name).take(SHOWN).collect();
                let instead = match &*found {
                    [] => ": there is no PEM section in it".to_owned(),
                    found => format!(", but {}", found.join(", ")),
                };
                let text = format!("{path} holds no {}{instead}", contents.name());
                Err(InvalidCredentials::new(codes::CREDENTIALS_EMPTY, text))
            }
            Some(_) | None => Ok(sections),
        }
    }
}

/// Without the bytes: they may be a key.
impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What a file is for, which decides what it may contain.
#[derive(Clone, Copy)]
enum Contents {
    /// A leaf and its issuers; in a bundle, their key too.
    Chain,
    /// Roots and nothing else: a key does not belong in a file that everyone may read.
    Roots,
    /// Revocation lists and nothing else.
    RevocationLists,
    /// One key; in a bundle, its chain too.
    Key,
}

impl Contents {
    fn name(self) -> &'static str {
        match self {
            Self::Chain | Self::Roots => "certificate",
            Self::RevocationLists => "revocation list",
            Self::Key => "private key",
        }
    }

    /// The command that converts it from DER.
    fn conversion(self) -> &'static str {
        match self {
            Self::Chain | Self::Roots => "openssl x509 -inform DER -in … -out …",
            Self::RevocationLists => "openssl crl -inform DER -in … -out …",
            Self::Key => "openssl pkey -inform DER -in … -out …",
        }
    }

    fn is_for(self, label: &Label) -> bool {
        match label {
            Label::Certificate => matches!(self, Self::Chain | Self::Roots),
            Label::RevocationList => matches!(self, Self::RevocationLists),
            Label::PrivateKey(_) | Label::EncryptedPrivateKey => matches!(self, Self::Key),
            Label::SigningRequest | Label::EcParameters | Label::Other(_) => false,
        }
    }

    fn admits(self, label: &Label) -> bool {
        let bundle = matches!(self, Self::Chain | Self::Key);
        match label {
            Label::Certificate
            | Label::PrivateKey(_)
            | Label::EncryptedPrivateKey
            | Label::EcParameters => bundle || self.is_for(label),
            Label::RevocationList => self.is_for(label),
            Label::SigningRequest | Label::Other(_) => false,
        }
    }
}

/// How to convert a section that is commonly mistaken for a supported one.
fn advice(label: &str) -> Option<&'static str> {
    Some(match label {
        "TRUSTED CERTIFICATE" => "convert it with `openssl x509 -in … -out …`",
        "X509 CERTIFICATE" | "X.509 CERTIFICATE" => "write CERTIFICATE in both markers",
        "CRL" | "X.509 CRL" => "write X509 CRL in both markers",
        "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => {
            "convert it with `openssl pkcs7 -print_certs -in … -out …`"
        }
        "OPENSSH PRIVATE KEY" => "convert it with `ssh-keygen -p -m PKCS8 -f …`",
        _ => return None,
    })
}
