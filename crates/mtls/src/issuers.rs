//! The certificates of authorities in one set of credentials: who signed what, and under which roots they stand.
//!
//! For revocation lists. Whether a chain is to be believed is never decided here.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::BitString;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crypto;
use crate::verify::{MAX_CHAIN, Root};

pub(crate) struct Issuers<'a>(Vec<Issuer<'a>>);

pub(crate) struct Issuer<'a> {
    cert: X509Certificate<'a>,
    root: Option<&'a CertificateDer<'static>>,
}

impl<'a> Issuers<'a> {
    pub(crate) fn new(intermediates: &'a [CertificateDer<'_>], roots: &'a [Root]) -> Self {
        let intermediates = intermediates.iter().map(|der| (der.as_ref(), None));
        let roots = roots
            .iter()
            .map(|root| (root.der.as_ref(), Some(&root.der)));
        let parsed = intermediates.chain(roots).filter_map(|(der, root)| {
            let (_, cert) = X509Certificate::from_der(der).ok()?;
            Some(Issuer { cert, root })
        });
        Self(parsed.collect())
    }

    /// Those with this subject, DER.
    pub(crate) fn named(&self, subject: &[u8]) -> impl Iterator<Item = &Issuer<'a>> {
        self.0
            .iter()
            .filter(move |issuer| issuer.cert.subject().as_raw() == subject)
    }

    /// The roots from which signatures lead to `issuer`, or itself when it is one.
    pub(crate) fn roots_above(&self, issuer: &Issuer<'a>) -> Vec<CertificateDer<'static>> {
        self.roots_within(issuer, MAX_CHAIN)
    }

    fn roots_within(&self, issuer: &Issuer<'a>, steps: usize) -> Vec<CertificateDer<'static>> {
        if let Some(root) = issuer.root {
            return vec![root.clone()];
        }
        let Some(steps) = steps.checked_sub(1) else {
            return Vec::new();
        };
        let signed = &issuer.cert.tbs_certificate;
        self.named(signed.issuer.as_raw())
            .filter(|parent| parent.signed(signed.as_ref(), &issuer.cert.signature_value))
            .flat_map(|parent| self.roots_within(parent, steps))
            .collect()
    }
}

impl Issuer<'_> {
    pub(crate) fn signed(&self, message: &[u8], signature: &BitString<'_>) -> bool {
        self.key_signed(message, &signature.data)
    }

    /// Whether the key of this certificate made `signature`.
    pub(crate) fn key_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        crypto::is_signed_by(self.key(), message, signature)
    }

    /// Whether it may sign revocation lists: a key usage that is there says so (RFC 5280 §6.3.3 (f)).
    pub(crate) fn may_sign_lists(&self) -> bool {
        match self.cert.key_usage() {
            Ok(Some(usage)) => usage.value.crl_sign(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.cert.public_key().subject_public_key.data
    }
}
