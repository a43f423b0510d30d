//! Certificate signing requests (RFC 2986): what the holder of a key that is not here asks for.
//!
//! A request proves only that its sender holds the key. Which names it gets is for [`super::Request`] to say.

use anyhow::{Context as _, Result, anyhow, bail};
use base::pem::{self, Label, PemFault};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::KeyType;
use super::certificate::{Names, PublicKeyKind, names_of};
use super::encoding::to_pem;
use super::leaf::OTHER_KEY;

/// A request whose signature shows that its sender holds the private key.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    pem: String,
    public_key: Vec<u8>,
    key_type: KeyType,
    names: Names,
}

impl SigningRequest {
    /// Reads a request in PEM, and checks the proof of possession.
    ///
    /// # Errors
    /// When it is not one, is not signed by the key that it is for, or that key is of a kind that is not made here.
    pub fn from_pem(bytes: &[u8]) -> Result<Self> {
        let der = section(bytes)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(malformed)?;
        if !rest.is_empty() {
            bail!(malformed("there are bytes after its end"));
        }
        let info = &request.certification_request_info;
        info.attributes_map().map_err(malformed)?;
        let key = &info.subject_pki;
        let key_type = PublicKeyKind::of(key).key_type().context(OTHER_KEY)?;
        check_signature(&request)?;
        let mut names = Names::default();
        for extension in request.requested_extensions().into_iter().flatten() {
            // Usages and the like are for the issuer to decide.
            if let ParsedExtension::ParseError { error } = extension {
                bail!(malformed(error));
            }
            if let ParsedExtension::SubjectAlternativeName(asked) = extension {
                if names != Names::default() {
                    bail!(malformed("it has two lists of names"));
                }
                names = names_of(&asked.general_names);
            }
        }
        if names.others > 0 {
            let others = names.others;
            bail!("it asks for {others} names of other kinds than URI, DNS, IP and e-mail");
        }
        Ok(Self {
            public_key: key.raw.to_vec(),
            key_type,
            names,
            pem: to_pem("CERTIFICATE REQUEST", der),
        })
    }

    /// The request itself.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key that the certificate is for: a DER `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The kind of that key.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The names that it asks for.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

fn malformed(reason: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the signing request is malformed: {reason}")
}

/// By its own key, or by an algorithm that is not known here, which says nothing about its sender.
fn check_signature(request: &X509CertificationRequest<'_>) -> Result<()> {
    let Err(error) = request.verify_signature() else {
        return Ok(());
    };
    let oid = request.signature_algorithm.algorithm.to_id_string();
    let key = &request.certification_request_info.subject_pki;
    // Other hashes than these two are not checked for a P-256 key.
    let other_hash = PublicKeyKind::of(key) == PublicKeyKind::P256
        && oid.starts_with("1.2.840.10045.4.3.")
        && !["1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"].contains(&&*oid);
    if other_hash || error == X509Error::SignatureUnsupportedAlgorithm {
        bail!(
            "it is signed by {}, which is not supported: sign it with SHA-256 (`openssl req -new -sha256`)",
            named(&oid)
        );
    }
    bail!(
        "its signature does not verify with its own key, so the sender may not have the private key"
    );
}

fn named(oid: &str) -> String {
    let name = match oid {
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        other => return other.to_owned(),
    };
    format!("{name} ({oid})")
}

/// The one request of a file.
fn section(bytes: &[u8]) -> Result<Vec<u8>> {
    if let Some((form, command)) = pem::binary(bytes, "openssl req -inform DER -in … -out …") {
        bail!("it is {form}, not PEM: convert it with `{command}`");
    }
    let sections = pem::sections(bytes)
        .map_err(|PemFault { line, reason }| anyhow!("line {line}: {reason}"))?;
    if let Some(other) = { sections.iter() }.find(|it| it.label != Label::SigningRequest) {
        bail!(
            "line {}: a section of {} does not belong here: put the signing request into a separate file",
            other.line,
            other.name
        );
    }
    let mut sections = sections.into_iter();
    match (sections.next(), sections.next()) {
        (None, _) => bail!(
            "it holds no certificate signing request in PEM; `openssl req -new -key … -out …` makes one"
        ),
        (Some(first), Some(second)) => bail!(
            "it holds more than one signing request, on lines {} and {}: give each a file of its own",
            first.line,
            second.line
        ),
        (Some(request), None) => Ok(request.into_der()),
    }
}
