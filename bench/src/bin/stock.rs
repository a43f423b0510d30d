//! The baseline: a stock tonic server with health, mutual TLS and no authorization. Arguments: ADDRESS TLS-DIR.

use std::path::Path;

use anyhow::Context as _;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().context("ADDRESS is missing")?.parse()?;
    let dir = args.next().context("TLS-DIR is missing")?;
    let read = |name: &str| std::fs::read(Path::new(&dir).join(name)).context(name.to_owned());
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("tls.crt")?, read("tls.key")?))
        .client_ca_root(Certificate::from_pem(read("ca.crt")?));
    let (_reporter, health) = tonic_health::server::health_reporter();
    Server::builder()
        .tls_config(tls)?
        .add_service(health)
        .serve(address)
        .await?;
    Ok(())
}
