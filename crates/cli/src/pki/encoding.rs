//! The little of DER (X.690) that certificates are put together from, and their PEM.

use anyhow::{Context as _, Result};
use mtls::PemFile;
use pem::{EncodeConfig, LineEnding, Pem};
use pki_types::CertificateDer;
use rcgen::KeyPair;
use x509_parser::asn1_rs::{Any, Tag, ToDer as _};
use x509_parser::prelude::FromDer as _;

/// An element whose content is these, one after another.
pub(super) fn element(tag: Tag, contents: &[impl AsRef<[u8]>]) -> Result<Vec<u8>> {
    let contents: Vec<&[u8]> = contents.iter().map(AsRef::as_ref).collect();
    Ok(Any::from_tag_and_data(tag, &contents.concat()).to_der_vec()?)
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

/// The octets that pairs of hexadecimal digits stand for.
pub(super) fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
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
