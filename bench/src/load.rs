//! Load on a server over mutual TLS, by the health check that every server here has.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// An empty message, which asks for the health of the server as a whole.
const EMPTY: &[u8] = &[0; 5];

/// How a stream ended.
pub struct Ended {
    pub at: tokio::time::Instant,
    pub status: Option<u8>,
}

/// A caller with one certificate.
#[derive(Clone)]
pub struct Caller {
    pub address: String,
    tls: TlsConnector,
}

impl Caller {
    pub fn new(address: &str, tls_dir: &Path) -> Result<Self> {
        let file = |name: &str| tls_dir.join(name);
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(file("ca.crt"))? {
            roots.add(root?)?;
        }
        let chain =
            CertificateDer::pem_file_iter(file("tls.crt"))?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(file("tls.key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            address: address.to_owned(),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    pub async fn connect(&self) -> Result<SendRequest<Bytes>> {
        let tcp = TcpStream::connect(&self.address).await?;
        tcp.set_nodelay(true)?;
        let tls = self
            .tls
            .connect(ServerName::try_from("localhost")?, tcp)
            .await?;
        let (send, connection) = h2::client::handshake(tls).await?;
        tokio::spawn(connection);
        Ok(send)
    }

    /// Waits until the server answers.
    pub async fn ready(&self) -> Result<()> {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let called = async { call(&mut self.connect().await?).await }.await;
            match called {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > give_up => {
                    return Err(e.context("the server does not answer"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// As many calls as there is time for, on `connections` with `streams` at once on each.
    pub async fn calls(&self, connections: usize, streams: usize, time: Duration) -> Result<u64> {
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let send = self.connect().await?;
            for _ in 0..streams {
                let mut send = send.clone();
                tasks.spawn(async move {
                    let mut done = 0;
                    while Instant::now() < end {
                        call(&mut send).await?;
                        done += 1;
                    }
                    anyhow::Ok(done)
                });
            }
        }
        sum(tasks).await
    }

    /// This many calls, one after the other.
    pub async fn some_calls(&self, count: u64) -> Result<()> {
        let mut send = self.connect().await?;
        for _ in 0..count {
            call(&mut send).await?;
        }
        Ok(())
    }

    /// As many connections as there is time for, one call on each: the server has then judged the certificate.
    pub async fn handshakes(&self, at_once: usize, time: Duration) -> Result<u64> {
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let caller = self.clone();
            tasks.spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    call(&mut caller.connect().await?).await?;
                    done += 1;
                }
                anyhow::Ok(done)
            });
        }
        sum(tasks).await
    }

    /// A stream that stays open after its first message; `streams` gets its end.
    pub async fn watch(
        &self,
        send: &SendRequest<Bytes>,
        streams: &mut JoinSet<Result<Ended>>,
    ) -> Result<()> {
        let mut send = send.clone().ready().await?;
        let (response, mut body) = send.send_request(request("Watch")?, false)?;
        body.send_data(Bytes::from_static(EMPTY), true)?;
        let mut body = response.await?.into_body();
        body.data().await.context("a stream ended at once")??;
        streams.spawn(async move {
            while let Some(chunk) = body.data().await {
                chunk?;
            }
            let trailers = body.trailers().await?;
            let status = trailers.as_ref().and_then(|all| all.get("grpc-status"));
            let status = status.and_then(|status| status.to_str().ok()?.parse().ok());
            Ok(Ended {
                at: tokio::time::Instant::now(),
                status,
            })
        });
        Ok(())
    }

    /// Connections that have made one call and make no other.
    pub async fn idle(&self, count: usize) -> Result<Vec<SendRequest<Bytes>>> {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            let mut send = self.connect().await?;
            call(&mut send).await?;
            idle.push(send);
        }
        Ok(idle)
    }
}

async fn sum(mut tasks: JoinSet<Result<u64>>) -> Result<u64> {
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    Ok(done)
}

fn request(method: &str) -> Result<http::Request<()>> {
    let uri = format!("https://localhost/grpc.health.v1.Health/{method}");
    Ok(http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?)
}

pub async fn call(send: &mut SendRequest<Bytes>) -> Result<()> {
    *send = send.clone().ready().await?;
    let (response, mut body) = send.send_request(request("Check")?, false)?;
    body.send_data(Bytes::from_static(EMPTY), true)?;
    let response = response.await?;
    let mut status = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
    }
    if status.is_none() {
        status = body
            .trailers()
            .await?
            .and_then(|trailers| trailers.get("grpc-status").cloned());
    }
    let status = status.context("a call ended without a status")?;
    ensure!(status == "0", "a call ended with grpc-status {status:?}");
    Ok(())
}
