//! Our verifier in a rustls server of one's own: a protocol that is not HTTP, one line to each peer.
//!
//! `cargo run -p countersign --example verifier` listens on 127.0.0.1:7000.

use std::error::Error;
use std::io;
use std::sync::Arc;

use countersign::identity::Role;
use countersign::mtls::{self, Reload, Source, Trust};
use countersign::telemetry::{self, LogFormat};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Greets one peer, and waits until its certificate is no longer good.
pub(crate) async fn greet(tcp: TcpStream, trust: &Trust) -> io::Result<()> {
    // No session resumption in it: every handshake asks the verifier.
    let config = mtls::server_config(trust).map_err(io::Error::other)?;
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(tcp).await?;
    let connection = stream.get_ref().1;
    let peer = mtls::peer(trust, connection).map_err(io::Error::other)?;
    let chain = connection.peer_certificates().unwrap_or_default().to_vec();
    stream
        .write_all(format!("hello {peer}\n").as_bytes())
        .await?;
    let refusal = mtls::lease_lost(trust, &peer, &chain).await;
    stream
        .write_all(format!("goodbye: {refusal}\n").as_bytes())
        .await?;
    stream.shutdown().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let _logs = telemetry::init_logs(LogFormat::Auto, "info");
    let source = Source::directory("certs/echo");
    let trust = Trust::open(Role::Server, source, Reload::default())?;
    let listener = TcpListener::bind(("127.0.0.1", 7000)).await?;
    loop {
        let (tcp, _address) = listener.accept().await?;
        let trust = trust.clone();
        tokio::spawn(async move { greet(tcp, &trust).await });
    }
}
