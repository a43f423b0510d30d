//! What a refused certificate says: unverified claims, for the log only.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::text::hexadecimal;

/// How much of a name is shown: it may be as long as a certificate.
const MAX_SHOWN: usize = 256;

/// The claims of one certificate, as far as it parses.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: String,
    pub(crate) sha256: String,
}

impl Presented {
    pub(crate) fn of(leaf: &CertificateDer<'_>) -> Self {
        let parsed = X509Certificate::from_der(leaf);
        let parsed = parsed.as_ref().map(|(_, certificate)| certificate).ok();
        Self {
            subject: parsed.map(|leaf| shown(leaf.subject())).unwrap_or_default(),
            issuer: parsed.map(|leaf| shown(leaf.issuer())).unwrap_or_default(),
            serial: parsed
                .map(|leaf| hexadecimal(leaf.raw_serial()))
                .map(|serial| serial.strip_prefix("00").unwrap_or(&serial).to_owned())
                .unwrap_or_default(),
            sha256: hexadecimal(digest(&SHA256, leaf).as_ref()),
        }
    }
}

fn shown(name: &X509Name<'_>) -> String {
    let mut name = identity::distinguished_name(name.as_raw()).unwrap_or_default();
    name.truncate(name.floor_char_boundary(MAX_SHOWN));
    name
}
