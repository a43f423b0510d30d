//! A single handshake, for tools that check how a server answers.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use identity::Peer;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::target::Target;
use crate::crypto;
use crate::handshake::{self, Present};
use crate::handshake_error::{HandshakeError, read_error};
use crate::rustls_verifier::Verifier;
use crate::trust::server_identity::ServerIdentity;
use crate::trust::snapshot::Snapshot;

/// Does a handshake with the server of `target` at `address`, shows it what `present` says, and closes.
///
/// # Errors
/// Why the handshake failed, on this side or the other: a server that requires a certificate and gets none says so.
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
            .map_err(|e| read_error(&e))?;
        handshake::connect(tcp, target.server_name(), expected, snapshot, present).await
    };
    let done = timeout(patience, attempt)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut))?;
    Ok(done.peer)
}

/// The chain that the server of `target` at `address` presents, unverified. It is empty when the
/// server presents none.
pub async fn presented_chain(
    address: SocketAddr,
    target: &Target,
    patience: Duration,
) -> Vec<CertificateDer<'static>> {
    let seen = Arc::new(OnceLock::new());
    let see = seen.clone();
    let onlooker = Verifier::new(Vec::new(), move |chain| {
        see.get_or_init(|| chain.iter().map(|der| der.clone().into_owned()).collect());
        Err(rustls::Error::General(
            "the chain was recorded, and is refused in any case".to_owned(),
        ))
    });
    let look = async {
        let mut config = crypto::client_config(onlooker, None).ok()?;
        config.alpn_protocols = vec![crypto::ALPN.to_vec()];
        let tcp = TcpStream::connect(address).await.ok()?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(target.server_name(), tcp).await.ok()
    };
    // It fails by design.
    drop(timeout(patience, look).await);
    seen.get().cloned().unwrap_or_default()
}
