//! The certificates of authorities in one set of credentials: who signed what, and which roots they chain to.
//!
//! This is for revocation lists; the decision about a chain is in `verify`.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crypto;
use crate::trust::names::canonical;
use crate::trust::root::{MAX_CHAIN, Root};

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

    /// The certificates with this subject (DER), however it is encoded.
    pub(crate) fn named(&self, subject: &[u8]) -> impl Iterator<Item = &Issuer<'a>> {
        let subject = canonical(subject);
        self.0
            .iter()
            .filter(move |issuer| canonical(issuer.cert.subject().as_raw()) == subject)
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
            .filter(|parent| parent.signed(signed.as_ref(), &issuer.cert.signature_value.data))
            .flat_map(|parent| self.roots_within(parent, steps))
            .collect()
    }
}

impl Issuer<'_> {
    /// Whether the key of this certificate made `signature`.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
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

/// Whether a certificate may be a root. Otherwise a leaf among the roots could issue certificates for any name. A root
/// of version 1 says nothing about itself and is refused for that (RFC 5280 §6.1.4(k)).
pub(crate) fn check_root(root: &X509Certificate<'_>) -> Result<(), &'static str> {
    let constraints = root
        .basic_constraints()
        .map_err(|_malformed| "its basicConstraints are malformed or repeated")?;
    match constraints {
        Some(constraints) if constraints.value.ca => check_usage(root),
        Some(_) => Err(
            "it is not a CA (basicConstraints CA:FALSE), so it cannot be a root: remove it (RFC 5280 §4.2.1.9)",
        ),
        None => Err(
            "it has no CA flag (no basicConstraints), so it cannot be a root: use one of version 3 with CA:TRUE (RFC 5280 §4.2.1.9)",
        ),
    }
}

/// Whether an authority may sign certificates, as far as its key usage says (RFC 5280 §4.2.1.3, §6.1.4(n)).
pub(crate) fn check_usage(authority: &X509Certificate<'_>) -> Result<(), &'static str> {
    let usage = authority
        .key_usage()
        .map_err(|_malformed| "its keyUsage is malformed or repeated")?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(
            "its keyUsage lacks keyCertSign, so it may not sign certificates (RFC 5280 §4.2.1.3)",
        );
    }
    Ok(())
}
