//! The little of DER (X.690) that certificates are put together from, and their PEM.

use anyhow::{Context as _, Result};
use mtls::PemFile;
use pem::{EncodeConfig, LineEnding, Pem};
use pki_types::CertificateDer;
use rcgen::KeyPair;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::FromDer as _;

pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// An element whose content is these, one after another.
pub(super) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let octets = contents.len().to_be_bytes();
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    let length = octets.get(zeros..).unwrap_or_default();
    let mut element = vec![tag];
    match length {
        [] => element.push(0),
        [short @ ..=0x7f] => element.push(*short),
        long => {
            element.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            element.extend_from_slice(long);
        }
    }
    element.extend_from_slice(&contents);
    element
}

/// The elements that one element consists of, each as a whole.
pub(super) fn elements(whole: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, any) = Any::from_der(whole).ok()?;
    let mut rest = any.data;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, _) = Any::from_der(rest).ok()?;
        found.push(rest.get(..rest.len() - after.len())?);
        rest = after;
    }
    Some(found)
}

/// The certificates of a text, at least one, which `what` names in errors.
pub(super) fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(PemFile::new(what, pem.into()).certificates()?)
}

/// The first certificate of a text.
pub(super) fn first_certificate(what: &str, pem: &str) -> Result<CertificateDer<'static>> {
    let first = certificates(what, pem)?.into_iter().next();
    first.with_context(|| format!("{what} holds no certificate"))
}

/// The one private key of a text.
pub(super) fn key_pair(what: &str, pem: &str) -> Result<KeyPair> {
    let key = PemFile::new(what, pem.into()).private_key()?;
    KeyPair::try_from(&*key)
        .context("the private key is not one that can sign: use ECDSA, Ed25519 or RSA")
}

/// A section of PEM.
pub(super) fn to_pem(label: &str, der: impl Into<Vec<u8>>) -> String {
    let section = Pem::new(label, der);
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&section, lines)
}
