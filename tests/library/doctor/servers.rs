//! Servers with one thing wrong each, for the doctor to find.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cli::pki::Leaf;
use http::Response;
use identity::Role;
use mtls::Limits;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tower::service_fn;

use crate::world::Pki;

/// A TLS server that shows `chain` and says nothing more; it wants no certificate unless `verifier` asks for one.
pub(super) async fn tls_server(
    chain: Vec<CertificateDer<'static>>,
    key: &str,
    alpn: &[&[u8]],
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> SocketAddr {
    let builder = ServerConfig::builder();
    let provider = builder.crypto_provider().clone();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    // Not by `with_single_cert`, which would refuse a chain in the wrong order.
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = builder.with_cert_resolver(Arc::new(certified));
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    tls.read_to_end(&mut Vec::new()).await.ok();
                }
            });
        }
    });
    address
}

pub(super) async fn showing(leaf: &Leaf) -> SocketAddr {
    tls_server(leaf.chain.clone(), &leaf.key_pem, &[b"h2"], None).await
}

/// A server that we believe, whose every answer is this message, with this date.
pub(super) async fn answering(
    pki: &Pki,
    message: &'static [u8],
    date: Option<&'static str>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trust = pki.trust("echo", Role::Server);
    let service = move |_: &Arc<identity::Peer>, _: mtls::Lease| {
        service_fn(move |_request| async move {
            let mut response = Response::builder().header("content-type", "application/grpc");
            if let Some(date) = date {
                response = response.header("date", date);
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = http_body_util::Full::new(bytes::Bytes::from_static(message));
            let body = http_body_util::BodyExt::with_trailers(body, async { Some(Ok(trailers)) });
            Ok::<_, Infallible>(response.body(Body::new(body)).unwrap())
        })
    };
    tokio::spawn(mtls::serve(
        listener,
        trust,
        Limits::default(),
        service,
        std::future::pending(),
    ));
    address
}

/// A verifier whose clock is a day ahead.
#[derive(Debug)]
pub(super) struct Tomorrow(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Tomorrow {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 24 * 60 * 60));
        let verified = self.0.verify_client_cert(leaf, intermediates, later);
        assert!(matches!(
            verified,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::ExpiredContext { .. }
            ))
        ));
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
