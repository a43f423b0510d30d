//! Certificates that no library makes, put together from their encoding.

use rcgen::{KeyPair, SigningKey as _};
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// The certificate with the other ECDSA signature on P-256 of the same bytes: (r, n - s).
pub(crate) fn other_signature(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let signature = parsed.signature_value.data.as_ref();
    let r = &signature[4..][..usize::from(signature[3])];
    let s = &signature[6 + r.len()..];
    let mut rest = [0; 32];
    let s = &s[s.len().saturating_sub(32)..];
    rest[32 - s.len()..].copy_from_slice(s);
    let (mut other, mut borrow) = (vec![0; 33], 0_i16);
    for place in (0..32).rev() {
        let digit = i16::from(ORDER[place]) - i16::from(rest[place]) - borrow;
        borrow = i16::from(digit < 0);
        other[place + 1] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    while other[0] == 0 && other[1] < 0x80 {
        other.remove(0);
    }
    let signature = tlv(0x30, &[tlv(2, r), tlv(2, &other)].concat());
    certificate_of(parsed.tbs_certificate.as_ref(), &signature)
}

/// An element of DER.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    match u8::try_from(length).unwrap_or(u8::MAX) {
        short @ ..0x80 => [&[tag, short], content].concat(),
        _ => {
            let length = u16::try_from(length).unwrap().to_be_bytes();
            [&[tag, 0x82, length[0], length[1]], content].concat()
        }
    }
}

/// What is signed, with a signature of it by ECDSA with SHA-256.
pub(crate) fn certificate_of(signed: &[u8], signature: &[u8]) -> CertificateDer<'static> {
    let algorithm = tlv(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    let signature = tlv(3, &[&[0], signature].concat());
    CertificateDer::from(tlv(0x30, &[signed, &algorithm, &signature].concat()))
}

/// The certificate with another subject, signed anew by its issuer.
pub(crate) fn with_subject(
    certificate: &CertificateDer<'_>,
    subject: &[u8],
    issuer: &KeyPair,
) -> CertificateDer<'static> {
    const SUBJECT: usize = 5;
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let (_, signed) = Any::from_der(parsed.tbs_certificate.as_ref()).unwrap();
    let (mut parts, mut left) = (Vec::new(), signed.data);
    while !left.is_empty() {
        let (rest, _) = Any::from_der(left).unwrap();
        parts.push(left[..left.len() - rest.len()].to_vec());
        left = rest;
    }
    parts[SUBJECT] = subject.to_vec();
    let signed = tlv(0x30, &parts.concat());
    certificate_of(&signed, &issuer.sign(&signed).unwrap())
}
