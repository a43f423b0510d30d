//! Certificate signing requests (RFC 2986): what the holder of a key that is not here asks for.
//!
//! Only that its sender holds the key is believed. Which names it gets is for [`super::Request`] to say.

use std::net::IpAddr;

use pki_types::CertificateSigningRequestDer;
use pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::KeyType;
use super::certificate::{Names, key_type_of, names_of};
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
    pub fn from_pem(text: &str) -> Result<Self, InvalidSigningRequest> {
        let pem = section(text)?;
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_damaged| InvalidSigningRequest::Pem)?;
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
        request
            .verify_signature()
            .map_err(|_bad| InvalidSigningRequest::NoPossession)?;
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
            pem,
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

/// The names as a command line writes them. Whoever asks chooses them, and the reader may paste them.
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

/// The request alone, under the label of RFC 7468; keytool and older tools say `NEW`.
fn section(text: &str) -> Result<String, InvalidSigningRequest> {
    let begin = text
        .find("-----BEGIN CERTIFICATE REQUEST-----")
        .or_else(|| text.find("-----BEGIN NEW CERTIFICATE REQUEST-----"));
    let section = begin.and_then(|begin| text.get(begin..)).and_then(|rest| {
        let end = rest.find("-----END ")?;
        let line = rest.get(end..)?.lines().next()?;
        rest.get(..end + line.len())
    });
    let section = section.ok_or(InvalidSigningRequest::Pem)?;
    Ok(section.replace(" NEW CERTIFICATE REQUEST", " CERTIFICATE REQUEST") + "\n")
}

/// Why a request is not one that can be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSigningRequest {
    /// There is no PEM section of a request in it, or a damaged one.
    #[error(
        "it holds no certificate signing request in PEM; `openssl req -new -key … -out …` makes one, and \
         `openssl req -inform DER` converts one"
    )]
    Pem,
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
