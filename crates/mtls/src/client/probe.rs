//! One handshake and nothing after it, for tools that ask how a server answers.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use identity::Peer;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::target::Target;
use crate::crypto;
use crate::handshake::{self, HandshakeError, Present};
use crate::trust::snapshot::Snapshot;
use crate::trust::verify::ServerIdentity;

/// Does a handshake with the server of `target` at `address`, shows it what `present` says, and closes.
///
/// # Errors
/// Why it came to nothing, on this side or the other: a server that wants a certificate and gets none says so.
pub async fn probe(
    address: SocketAddr,
    target: &Target,
    expected: ServerIdentity,
    snapshot: &Snapshot,
    present: Present,
    patience: Duration,
) -> Result<Arc<Peer>, HandshakeError> {
    let attempt = async {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|e| handshake::read_error(&e))?;
        handshake::connect(tcp, target.server_name(), expected, snapshot, present).await
    };
    let done = timeout(patience, attempt)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut))?;
    Ok(done.peer)
}

/// The chain that the server of `target` at `address` presents to everybody, believed by nobody. It is empty when there
/// is none to be had.
pub async fn presented_chain(
    address: SocketAddr,
    target: &Target,
    patience: Duration,
) -> Vec<CertificateDer<'static>> {
    let onlooker = Arc::new(Onlooker::default());
    let look = async {
        let mut config = crypto::client_config()
            .ok()?
            .dangerous() // it believes nobody: the handshake ends once the chain was seen
            .with_custom_certificate_verifier(onlooker.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![crypto::ALPN.to_vec()];
        let tcp = TcpStream::connect(address).await.ok()?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(target.server_name(), tcp).await.ok()
    };
    // That it fails is the plan.
    drop(timeout(patience, look).await);
    onlooker.chain.get().cloned().unwrap_or_default()
}

/// A verifier that remembers the chain and refuses it.
#[derive(Debug, Default)]
struct Onlooker {
    chain: OnceLock<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.chain.get_or_init(|| {
            std::iter::once(leaf)
                .chain(intermediates)
                .map(|certificate| certificate.clone().into_owned())
                .collect()
        });
        Err(only_looking())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_looking())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_looking())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::signature_algorithms().supported_schemes()
    }
}

fn only_looking() -> rustls::Error {
    rustls::Error::General("the chain was looked at, and that was all".to_owned())
}
