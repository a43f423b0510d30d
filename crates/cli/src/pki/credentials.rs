//! The credentials of an identity as they are on the disk.

use anyhow::{Context as _, Result};
use rcgen::{KeyPair, PublicKeyData as _};

use super::SigningRequest;
use super::certificate::Certificate;
use super::encoding::{first_certificate, key_pair};

/// What is in the directory of an identity.
pub(crate) struct Credentials {
    /// The leaf and what is above it.
    pub(super) chain_pem: String,
    /// The private key; empty when it is missing.
    pub(super) key_pem: String,
    /// Whether only its owner and its group may read it.
    pub(super) key_is_private: bool,
    /// The signing request, when the key is held elsewhere.
    pub(super) request: Option<SigningRequest>,
}

/// The holder of the key of a certificate.
#[derive(Clone, Copy)]
pub(crate) enum Holder<'a> {
    /// We made it: this PEM.
    Us { key_pem: &'a str },
    /// The sender of the request, which is kept so that the certificate can be renewed.
    Them { request: &'a SigningRequest },
}

impl Credentials {
    /// The certificate of the identity.
    pub(super) fn leaf(&self) -> Result<Certificate> {
        let der = first_certificate("tls.crt", &self.chain_pem)?;
        Certificate::from_der(&der).context("tls.crt")
    }

    /// The private key, if it is here and that of `leaf`.
    pub(super) fn key_of(&self, leaf: &Certificate) -> Option<KeyPair> {
        let key = key_pair("tls.key", &self.key_pem).ok()?;
        (key.subject_public_key_info() == leaf.public_key).then_some(key)
    }
}

/// Whether a key is the one that a request is for.
pub(super) fn is_key_of(key_pem: &str, request: &SigningRequest) -> bool {
    key_pair("tls.key", key_pem)
        .is_ok_and(|key| key.subject_public_key_info() == request.public_key())
}
