//! An axum router behind our transport and our policy, which sees the path of a page as it sees a method.
//!
//! `cargo run -p countersign --example axum --features axum` listens on 127.0.0.1:8443, for HTTP/2 alone.

use std::error::Error;
use std::sync::Arc;

use axum::extract::Extension;
use axum::{Router, routing::get};
use countersign::Peer;
use countersign::authz::{Authorization, AuthorizationLayer, LivePolicy, Policy};
use countersign::identity::Role;
use countersign::mtls::{self, Incoming, Limits, Reload, Source, Trust, with_peer};
use countersign::telemetry::{self, LogFormat};
use tokio::net::TcpListener;

/// Tells callers who they are. A path has two parts, as that of a gRPC method has.
async fn who(Extension(peer): Extension<Arc<Peer>>) -> String {
    format!("you are {peer}")
}

/// Serves until the task is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    trust: Trust,
    policy: LivePolicy,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let incoming = Incoming::new(listener, trust, Limits::default())?;
    let router = Router::new()
        .route("/pages/who", get(who))
        .layer(AuthorizationLayer::new(Authorization::new(policy)));
    axum::serve(incoming, with_peer(router)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let _logs = telemetry::init_logs(LogFormat::Auto, "info");
    let source = Source::directory("certs/echo");
    let trust = Trust::open(Role::Server, source, Reload::default())?;
    let policy = Policy::parse(&std::fs::read("policy.json")?)?;
    let listener = mtls::bind(([127, 0, 0, 1], 8443).into()).await?;
    serve(listener, trust, LivePolicy::new(policy)).await
}
