//! Whether the key of a certificate can be used in a handshake.
//!
//! A chain proves nothing by itself: the key signs the handshake, by an algorithm of TLS 1.3 (RFC 8446 §4.2.3).

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// What aws-lc-rs verifies signatures of.
const RSA_BITS: std::ops::RangeInclusive<u64> = 2048..=8192;

const RSA: &str = "1.2.840.113549.1.1.1";
const ELLIPTIC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";
/// P-256, P-384 and P-521.
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

const ACCEPTED: &str = "use ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits";

/// Says what is wrong with the key, if it is of a kind that no handshake takes.
pub(crate) fn check(certificate: &CertificateDer<'_>) -> Result<(), String> {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => check_parsed(&certificate),
        Err(_) => Err("it cannot be read".to_owned()),
    }
}

/// The same, for a certificate that is parsed: one that signs others has such a key too.
pub(crate) fn check_parsed(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let key = certificate.public_key();
    let algorithm = key.algorithm.algorithm.to_id_string();
    match algorithm.as_str() {
        ED25519 => Ok(()),
        RSA => match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => {
                let bits = BigUint::from_bytes_be(rsa.modulus).bits();
                if RSA_BITS.contains(&bits) {
                    return Ok(());
                }
                Err(format!("it is RSA of {bits} bits; {ACCEPTED}"))
            }
            Ok(_) | Err(_) => Err(format!("its RSA key is malformed; {ACCEPTED}")),
        },
        ELLIPTIC => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|it| it.as_oid().ok());
            let curve = curve.map_or_else(|| "no named curve".to_owned(), |it| it.to_id_string());
            if CURVES.contains(&curve.as_str()) {
                return Ok(());
            }
            let name = match curve.as_str() {
                "1.3.132.0.10" => " (secp256k1)",
                _ => "",
            };
            Err(format!("it is ECDSA on {curve}{name}; {ACCEPTED}"))
        }
        other => Err(format!("it is of algorithm {other}; {ACCEPTED}")),
    }
}
