//! Chooses cryptography, and nothing else does: TLS 1.3 only, by aws-lc-rs, passed explicitly.
//!
//! There is no process-wide default provider and no setting that weakens this choice.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs::{self as rustls_aws_lc_rs, cipher_suite};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::SigningKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite};

/// HTTP/2, the only protocol that is offered and accepted (RFC 7301).
pub(crate) const ALPN: &[u8] = b"h2";

/// The cipher suites of TLS 1.3, in the order in which our client offers them and our server chooses among those that a
/// client offers, regardless of the client's order.
/// AES-128 is first: no practical attack on it is known, the key exchange is of the same strength, and many processors
/// accelerate SHA-256, the hash of its suite. AES-256 makes a handshake a seventh more expensive, all of it for
/// SHA-384.
const CIPHER_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: CIPHER_SUITES.to_vec(),
        kx_groups: vec![
            rustls_aws_lc_rs::kx_group::X25519MLKEM768,
            rustls_aws_lc_rs::kx_group::X25519,
            rustls_aws_lc_rs::kx_group::SECP256R1,
        ],
        ..rustls_aws_lc_rs::default_provider()
    })
});

pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

pub(crate) fn signature_algorithms() -> &'static WebPkiSupportedAlgorithms {
    &provider().signature_verification_algorithms
}

/// A signing key, read by the provider's own parser. It copies what it needs; the owner of `key` must wipe it.
pub(crate) fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
    rustls_aws_lc_rs::sign::any_supported_type(key)
}

/// A server that requires a certificate, and resumes no session, since that would skip the verifier.
pub(crate) fn server_config(
    verifier: Arc<dyn ClientCertVerifier>,
    own: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    Ok(config)
}

/// A client that presents `own` if asked, and resumes no session either.
pub(crate) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    own: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // a custom verifier, on purpose: it decides by verify.rs
        .with_custom_certificate_verifier(verifier);
    let mut config: ClientConfig = match own {
        Some(own) => config.with_client_cert_resolver(own),
        None => config.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A digest of content that is compared but not kept, such as a private key file.
pub(crate) type Digest = [u8; 32];

/// SHA-256 over `parts`, each with its length, so that different lists of parts have different digests.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut out = Digest::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Whether `signature` over `message` is valid for a public key, by any of the accepted algorithms.
pub(crate) fn is_signed_by(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let mut algorithms = signature_algorithms().all.iter();
    algorithms.any(|algorithm| {
        algorithm
            .verify_signature(public_key, message, signature)
            .is_ok()
    })
}
