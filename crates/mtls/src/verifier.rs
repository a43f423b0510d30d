//! The verifier and the credentials for your own rustls configuration, when neither [`crate::serve`] nor
//! [`crate::connect`] fits.
//!
//! Every handshake is verified by the snapshot that is current then. After the handshake your program calls [`peer`] to
//! get the peer, and [`lease_lost`] to learn when it must end the connection.

use std::sync::Arc;
use std::time::SystemTime;

use identity::{Peer, Role};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, CommonState, ServerConfig, SignatureScheme};
use tracing::warn;

use crate::crypto;
use crate::events;
use crate::lease;
use crate::presented::Presented;
use crate::refusal::Refusal;
use crate::rustls_verifier::Verifier;
use crate::trust::live::Trust;
use crate::trust::server_identity::ServerIdentity;
use crate::trust::verify::Authorities;

/// A server configuration: TLS 1.3, client certificates required and verified by the current snapshot, our own
/// certificate from the same snapshot, and no session resumption. Set `alpn_protocols` to what you serve.
///
/// Prefer this to [`client_verifier`]. Do not enable resumption: a resumed handshake skips the verifier, so a revoked
/// peer would be accepted again.
///
/// # Errors
/// rustls rejects the choice of cryptography.
pub fn server_config(trust: &Trust) -> Result<ServerConfig, rustls::Error> {
    let own = Arc::new(CurrentCredentials(trust.clone()));
    crypto::server_config(client_verifier(trust), own)
}

/// A client configuration: TLS 1.3, a server that must prove to be `expected`, our own certificate from the current
/// snapshot, and no session resumption. Set `alpn_protocols` to what you speak.
///
/// # Errors
/// rustls rejects the choice of cryptography.
pub fn client_config(
    trust: &Trust,
    expected: ServerIdentity,
) -> Result<ClientConfig, rustls::Error> {
    let own = Arc::new(CurrentCredentials(trust.clone()));
    crypto::client_config(server_verifier(trust, expected), Some(own))
}

/// Verifies clients by the snapshot that is current at each handshake. A certificate and TLS 1.3 are mandatory.
///
/// **Disable session resumption** in the configuration that uses it (`send_tls13_tickets = 0` and
/// `NoServerSessionStorage`): a resumed handshake skips the verifier. [`server_config`] disables it.
pub fn client_verifier(trust: &Trust) -> Arc<dyn ClientCertVerifier> {
    verifier(trust, |authorities, chain, now| {
        authorities.judge(Role::Client, chain, now)
    })
}

/// Verifies servers by the snapshot that is current at each handshake: each must prove to be `expected`, regardless of
/// the name in SNI.
///
/// **Disable session resumption** in the configuration that uses it (`Resumption::disabled()`): a resumed handshake
/// skips the verifier. [`client_config`] disables it.
pub fn server_verifier(trust: &Trust, expected: ServerIdentity) -> Arc<dyn ServerCertVerifier> {
    verifier(trust, move |authorities, chain, now| {
        authorities.judge_server(&expected, chain, now)
    })
}

/// Who the other side of an established connection is. `connection` is what rustls' connections dereference to; with
/// tokio-rustls it is `stream.get_ref().1`.
///
/// The chain is verified again, by the snapshot that is current now.
///
/// # Errors
/// [`Refusal`]: the handshake is not complete, or the chain is no longer accepted. Close the connection then.
pub fn peer(trust: &Trust, connection: &CommonState) -> Result<Arc<Peer>, Refusal> {
    let chain = connection
        .peer_certificates()
        .filter(|_| !connection.is_handshaking())
        .ok_or(Refusal::NoCertificate)?;
    let snapshot = trust.current();
    let role = other(snapshot.role());
    snapshot.authorities().judge(role, chain, SystemTime::now())
}

/// Resolves with the reason when the connection of `peer` must end: a certificate of its path expired, was revoked, or
/// lost its root. `chain` is the chain that it presented. Close the connection then; nothing else does.
pub async fn lease_lost(trust: &Trust, peer: &Peer, chain: &[CertificateDer<'static>]) -> Refusal {
    let mut snapshots = trust.subscribe();
    // Start with the current snapshot, in case it is newer than the one that verified `peer`.
    snapshots.mark_changed();
    let role = other(trust.current().role());
    lease::loss(role, peer, chain, snapshots).await
}

/// The role of the other side.
fn other(ours: Role) -> Role {
    match ours {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Our current certificate and key.
#[derive(Debug)]
struct CurrentCredentials(Trust);

impl ResolvesServerCert for CurrentCredentials {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ResolvesServerCert::resolve(&*self.0.current().resolver(), hello)
    }
}

impl ResolvesClientCert for CurrentCredentials {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let resolver = self.0.current().resolver();
        ResolvesClientCert::resolve(&*resolver, root_hint_subjects, schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies by the snapshot that is current at each handshake. It gives no hints: they would be those of one snapshot,
/// and a client has only one certificate anyway.
fn verifier(
    trust: &Trust,
    judge: impl Fn(&Authorities, &[CertificateDer<'_>], SystemTime) -> Result<Arc<Peer>, Refusal>
    + Send
    + Sync
    + 'static,
) -> Arc<Verifier> {
    let trust = trust.clone();
    Verifier::new(Vec::new(), move |chain| {
        let judged = judge(trust.current().authorities(), chain, SystemTime::now());
        let Err(refusal) = judged else { return Ok(()) };
        trust.counts().refused.add(refusal.code());
        let says = chain.first().map(Presented::of);
        let says = says.as_ref();
        warn!(
            code = refusal.code(),
            reason = %refusal,
            tls.peer.subject = says.map(|certificate| &*certificate.subject),
            tls.peer.issuer = says.map(|certificate| &*certificate.issuer),
            tls.peer.serial = says.map(|certificate| &*certificate.serial),
            tls.peer.hash.sha256 = says.map(|certificate| &*certificate.sha256),
            "{}", events::CERTIFICATE_REFUSED
        );
        Err(rustls::Error::from(&refusal))
    })
}
