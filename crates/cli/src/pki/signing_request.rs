//! Certificate signing requests (RFC 2986): what the holder of a key that is not here asks for.
//!
//! A request proves only that its sender holds the key. Which names it gets is for [`super::Request`] to say.

use std::net::IpAddr;

use base::pem::{self, Label, PemFault};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::KeyType;
use super::certificate::{Names, key_type_of, names_of};
use super::encoding::to_pem;
use crate::text::shell_word;

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
    pub fn from_pem(bytes: &[u8]) -> Result<Self, InvalidSigningRequest> {
        let der = section(bytes)?;
        let malformed =
            |reason: &dyn std::fmt::Display| InvalidSigningRequest::Malformed(reason.to_string());
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|e| malformed(&e))?;
        if !rest.is_empty() {
            return Err(malformed(&"there are bytes after its end"));
        }
        let info = &request.certification_request_info;
        info.attributes_map().map_err(|e| malformed(&e))?;
        let key = &info.subject_pki;
        let key_type = key_type_of(key).ok_or(InvalidSigningRequest::Key)?;
        check_signature(&request)?;
        let mut names = Names::default();
        for extension in request.requested_extensions().into_iter().flatten() {
            // Usages and the like are for the issuer to decide.
            if let ParsedExtension::ParseError { error } = extension {
                return Err(malformed(error));
            }
            if let ParsedExtension::SubjectAlternativeName(asked) = extension {
                if names != Names::default() {
                    return Err(malformed(&"it has two lists of names"));
                }
                names = names_of(&asked.general_names);
            }
        }
        if names.others > 0 {
            return Err(InvalidSigningRequest::OtherNames(names.others));
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

/// The names as a command line writes them. The sender chooses them, and the reader may paste them.
pub(super) fn flags(names: &Names) -> Vec<String> {
    let Names {
        uris,
        dns,
        ips,
        emails,
        others: _,
    } = names;
    let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    let kinds = [("uri", uris), ("dns", dns), ("ip", &ips), ("email", emails)];
    kinds
        .iter()
        .flat_map(|(flag, names)| {
            names
                .iter()
                .map(move |name| format!("--{flag} {}", shell_word(name)))
        })
        .collect()
}

/// By its own key, or by an algorithm that is not known here, which says nothing about its sender.
fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), InvalidSigningRequest> {
    use x509_parser::error::X509Error;
    match request.verify_signature() {
        Ok(()) => Ok(()),
        Err(X509Error::SignatureUnsupportedAlgorithm) => {
            let oid = request.signature_algorithm.algorithm.to_id_string();
            Err(InvalidSigningRequest::Algorithm(named(&oid)))
        }
        Err(_bad) => {
            let oid = request.signature_algorithm.algorithm.to_id_string();
            // Other hashes than these two are not checked for such a key.
            let p256 =
                key_type_of(&request.certification_request_info.subject_pki) == Some(KeyType::P256);
            if p256
                && oid.starts_with("1.2.840.10045.4.3.")
                && !["1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"].contains(&oid.as_str())
            {
                return Err(InvalidSigningRequest::Algorithm(named(&oid)));
            }
            Err(InvalidSigningRequest::NoPossession)
        }
    }
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
fn section(bytes: &[u8]) -> Result<Vec<u8>, InvalidSigningRequest> {
    if let Some((form, command)) = pem::binary(bytes, "openssl req -inform DER -in … -out …") {
        return Err(InvalidSigningRequest::Binary { form, command });
    }
    let sections = pem::sections(bytes)
        .map_err(|PemFault { line, reason }| InvalidSigningRequest::Pem { line, reason })?;
    if let Some(other) = { sections.iter() }.find(|it| it.label != Label::SigningRequest) {
        return Err(InvalidSigningRequest::Unexpected {
            line: other.line,
            label: other.name.clone(),
        });
    }
    let mut sections = sections.into_iter();
    match (sections.next(), sections.next()) {
        (None, _) => Err(InvalidSigningRequest::Missing),
        (Some(first), Some(second)) => Err(InvalidSigningRequest::Several {
            first: first.line,
            second: second.line,
        }),
        (Some(request), None) => Ok(request.into_der()),
    }
}

/// Why a request is not one that can be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSigningRequest {
    /// There is none in it.
    #[error(
        "it holds no certificate signing request in PEM; `openssl req -new -key … -out …` makes one"
    )]
    Missing,
    /// It is not text.
    #[error("it is {form}, not PEM: convert it with `{command}`")]
    Binary {
        /// What it looks like.
        form: &'static str,
        /// What makes PEM of it.
        command: &'static str,
    },
    /// A line of it is not PEM.
    #[error("line {line}: {reason}")]
    Pem {
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something else is in it, such as the key.
    #[error(
        "line {line}: a section of {label} is not read here: give the signing request a file of its own"
    )]
    Unexpected {
        /// Where it begins.
        line: usize,
        /// What it says that it is.
        label: String,
    },
    /// More than one, so that it is not clear which is meant.
    #[error(
        "it holds more than one signing request, on lines {first} and {second}: give each a file of its own"
    )]
    Several {
        /// Where the first begins.
        first: usize,
        /// Where the second begins.
        second: usize,
    },
    /// Signed in a way that is not checked here.
    #[error(
        "it is signed by {0}, which is not supported: sign it with SHA-256 (`openssl req -new -sha256`)"
    )]
    Algorithm(String),
    /// It is not a request.
    #[error("the signing request is malformed: {0}")]
    Malformed(String),
    /// The key is of another kind.
    #[error("its key is none of P-256, Ed25519 and RSA of 2048, 3072 or 4096 bits")]
    Key,
    /// Its signature is not by the key that it is for.
    #[error("its signature is not by its own key, so its sender may not hold it")]
    NoPossession,
    /// It asks for something that no service of ours looks at.
    #[error("it asks for {0} names of other kinds than URI, DNS, IP and e-mail")]
    OtherNames(usize),
}
