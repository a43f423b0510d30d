//! Connections below the level of a gRPC client, for peers that do what no gRPC client does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::Pki;

/// A plain rustls client of `name`, with session resumption on, as rustls has it by default.
pub(crate) fn config(pki: &Pki, name: &str, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let dir = pki.dir(name);
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(dir.join("ca.crt")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(dir.join("tls.crt"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

pub(crate) async fn handshake(
    pki: &Pki,
    name: &str,
    address: SocketAddr,
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    handshake_with(config(pki, name, alpn), address).await
}

pub(crate) async fn handshake_with(
    config: Arc<ClientConfig>,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, tcp).await
}
