//! A server of tonic's own, as it may exist already, with our transport under it and our policy before it.
//!
//! `cargo run -p countersign --example existing_tonic_service --features tonic-server` listens on 127.0.0.1:50051.

use std::error::Error;

use countersign::authz::{Authorization, AuthorizationLayer, LivePolicy, Policy};
use countersign::identity::Role;
use countersign::mtls::{self, Incoming, Limits, Reload, Source, Trust};
use countersign::telemetry::{self, LogFormat};
use test_contract::v1::echo_service_server::EchoServiceServer;
use tokio::net::TcpListener;
use tonic::transport::Server;

#[path = "support/echo.rs"]
mod echo;

/// Serves until the task is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    trust: Trust,
    policy: LivePolicy,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let incoming = Incoming::new(listener, trust, Limits::default())?;
    Server::builder()
        .layer(AuthorizationLayer::new(Authorization::new(policy)))
        .add_service(EchoServiceServer::new(echo::Echo::default()))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let _logs = telemetry::init_logs(LogFormat::Auto, "info");
    let source = Source::directory("certs/echo");
    let trust = Trust::open(Role::Server, source, Reload::default())?;
    let policy = Policy::parse(&std::fs::read("policy.json")?)?;
    let listener = mtls::bind(([127, 0, 0, 1], 50051).into()).await?;
    serve(listener, trust, LivePolicy::new(policy)).await
}
