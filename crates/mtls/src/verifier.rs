//! The verifier and the credentials for a rustls configuration of one's own, when neither our server nor our channel fits.
//!
//! Every handshake is judged by the snapshot that is current then. What comes after the handshake is up to the program:
//! the peer is asked for with [`peer`], and the moment when its connection must end with [`authority_lost`].

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
use crate::trust::verify::ServerIdentity;

/// A whole server configuration: TLS 1.3, client certificates required and judged by the current snapshot, our own
/// certificate from the same, and no session resumption. Set `alpn_protocols` to what you serve.
///
/// Prefer this to [`client_verifier`]. Do not turn resumption on: a resumed handshake skips the verifier, so that a
/// revoked peer would get back in.
///
/// # Errors
/// rustls does not take the choice of cryptography.
pub fn server_config(trust: &Trust) -> Result<ServerConfig, rustls::Error> {
    let mut config = crypto::server_config()?
        .with_client_cert_verifier(client_verifier(trust))
        .with_cert_resolver(Arc::new(CurrentCredentials(trust.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A whole client configuration: TLS 1.3, a server that must prove to be `expected`, our own certificate from the
/// current snapshot, and no session resumption. Set `alpn_protocols` to what you speak.
///
/// # Errors
/// rustls does not take the choice of cryptography.
pub fn client_config(
    trust: &Trust,
    expected: ServerIdentity,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = crypto::client_config()?
        .dangerous() // the verifier is ours, on purpose: it is the one in verify.rs
        .with_custom_certificate_verifier(server_verifier(trust, expected))
        .with_client_cert_resolver(Arc::new(CurrentCredentials(trust.clone())));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Judges clients by the snapshot that is current at each handshake. A certificate is mandatory, and so is TLS 1.3.
///
/// **Turn session resumption off** in the configuration that it goes into (`send_tls13_tickets = 0` and
/// `NoServerSessionStorage`): a resumed handshake never asks a verifier. [`server_config`] has it off.
pub fn client_verifier(trust: &Trust) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Verifier(Current {
        trust: trust.clone(),
        side: Side::Server,
    }))
}

/// Judges servers by the snapshot that is current at each handshake: each must prove to be `expected`, whatever name it
/// was dialled by.
///
/// **Turn session resumption off** in the configuration that it goes into (`Resumption::disabled()`): a resumed
/// handshake never asks a verifier. [`client_config`] has it off.
pub fn server_verifier(trust: &Trust, expected: ServerIdentity) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Verifier(Current {
        trust: trust.clone(),
        side: Side::Client(expected),
    }))
}

/// Who the other side of an established connection is. `connection` is what rustls' connections dereference to; with
/// tokio-rustls it is `stream.get_ref().1`.
///
/// The certificates are judged once more, by the snapshot that is current now.
///
/// # Errors
/// [`Refusal`]: the handshake is not over, or what was believed in it no longer is. Close the connection then.
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

/// Resolves when the connection of `peer` must end, with the reason: a certificate of its path expired, was revoked, or
/// lost its root. `chain` is what it presented. Close the connection then; nobody else does.
pub async fn authority_lost(
    trust: &Trust,
    peer: &Peer,
    chain: &[CertificateDer<'static>],
) -> Refusal {
    let mut snapshots = trust.subscribe();
    // The first look is at the current snapshot, in case it is newer than the one that `peer` was judged by.
    snapshots.mark_changed();
    let role = other(trust.current().role());
    lease::loss(role, peer, chain, snapshots).await
}

/// What the other side does when we do this.
fn other(ours: Role) -> Role {
    match ours {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Our certificate and key, as they are now.
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

#[derive(Debug)]
enum Side {
    /// We are the server and judge clients.
    Server,
    /// We are the client and judge the server that we expect.
    Client(ServerIdentity),
}

/// Verifies by the snapshot that is current at each handshake.
struct Current {
    trust: Trust,
    side: Side,
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
        let verdict = match &self.side {
            Side::Server => authorities.judge(Role::Client, &chain, now),
            Side::Client(expected) => authorities.judge_server(expected, &chain, now),
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

    /// No hints: they would be those of one snapshot, and a client has one certificate to show anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
}
