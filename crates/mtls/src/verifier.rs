//! The verifier and the credentials for your own rustls configuration, when neither [`crate::serve`] nor
//! [`crate::connect`] fits.
//!
//! Every handshake is verified by the snapshot that is current then. After the handshake your program calls [`peer`] to
//! get the peer, and [`lease_lost`] to learn when it must end the connection.

use std::sync::Arc;
use std::time::SystemTime;

use identity::{Peer, Role};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, CommonState, DistinguishedName, ServerConfig, SignatureScheme};
use tracing::warn;

use crate::crypto;
use crate::events;
use crate::lease;
use crate::presented::Presented;
use crate::refusal::Refusal;
use crate::rustls_verifier::{Verifier, VerifyChain};
use crate::trust::live::Trust;
use crate::trust::server_identity::ServerIdentity;

/// A server configuration: TLS 1.3, client certificates required and verified by the current snapshot, our own
/// certificate from the same snapshot, and no session resumption. Set `alpn_protocols` to what you serve.
///
/// Prefer this to [`client_verifier`]. Do not enable resumption: a resumed handshake skips the verifier, so a revoked
/// peer would be accepted again.
///
/// # Errors
/// rustls rejects the choice of cryptography.
pub fn server_config(trust: &Trust) -> Result<ServerConfig, rustls::Error> {
    let mut config = crypto::server_config()?
        .with_client_cert_verifier(client_verifier(trust))
        .with_cert_resolver(Arc::new(CurrentCredentials(trust.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
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
    let mut config = crypto::client_config()?
        .dangerous() // a custom verifier, on purpose: it decides by verify.rs
        .with_custom_certificate_verifier(server_verifier(trust, expected))
        .with_client_cert_resolver(Arc::new(CurrentCredentials(trust.clone())));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Verifies clients by the snapshot that is current at each handshake. A certificate and TLS 1.3 are mandatory.
///
/// **Disable session resumption** in the configuration that uses it (`send_tls13_tickets = 0` and
/// `NoServerSessionStorage`): a resumed handshake skips the verifier. [`server_config`] disables it.
pub fn client_verifier(trust: &Trust) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Verifier(Current {
        trust: trust.clone(),
        expected: ExpectedPeer::Client,
    }))
}

/// Verifies servers by the snapshot that is current at each handshake: each must prove to be `expected`, regardless of
/// the name in SNI.
///
/// **Disable session resumption** in the configuration that uses it (`Resumption::disabled()`): a resumed handshake
/// skips the verifier. [`client_config`] disables it.
pub fn server_verifier(trust: &Trust, expected: ServerIdentity) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Verifier(Current {
        trust: trust.clone(),
        expected: ExpectedPeer::Server(expected),
    }))
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
    let authorities = snapshot.authorities();
    authorities
        .judge(other(snapshot.role()), chain, SystemTime::now())
        .map(Arc::new)
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

/// Whom the other side must prove to be.
#[derive(Debug)]
enum ExpectedPeer {
    /// Any client.
    Client,
    /// This server.
    Server(ServerIdentity),
}

/// Verifies by the snapshot that is current at each handshake.
struct Current {
    trust: Trust,
    expected: ExpectedPeer,
}

impl VerifyChain for Current {
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let mut chain = vec![leaf.clone()];
        chain.extend_from_slice(intermediates);
        let (snapshot, now) = (self.trust.current(), SystemTime::now());
        let authorities = snapshot.authorities();
        let verdict = match &self.expected {
            ExpectedPeer::Client => authorities.judge(Role::Client, &chain, now),
            ExpectedPeer::Server(expected) => authorities.judge_server(expected, &chain, now),
        };
        match verdict {
            Ok(_peer) => Ok(()),
            Err(refusal) => {
                self.trust.counts().refused.add(refusal.code());
                let says = Presented::of(leaf);
                warn!(
                    code = refusal.code(),
                    reason = %refusal,
                    tls.peer.subject = says.subject,
                    tls.peer.issuer = says.issuer,
                    tls.peer.serial = says.serial,
                    tls.peer.hash.sha256 = says.sha256,
                    "{}", events::CERTIFICATE_REFUSED
                );
                Err(rustls::Error::from(&refusal))
            }
        }
    }

    /// No hints: they would be those of one snapshot, and a client has only one certificate anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
}
