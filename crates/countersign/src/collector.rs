//! Sends spans to a collector: OTLP over gRPC and mutual TLS, with the identity of this program.
//! The telemetry crate encodes the spans and does not depend on the transport. The channel is of the kind that calls of
//! any other service use, so each connection has the credentials that are current when it is made.

use std::sync::Arc;
use std::time::Duration;

use base::raw::Raw;
use bytes::Bytes;
use clap::Args;
use http::uri::PathAndQuery;
use identity::SpiffeId;
use mtls::{Channel, ChannelOptions, ServerIdentity, Target, Trust};
use pki_types::ServerName;
use telemetry::{Collector, InvalidTracing, Traces};
use tonic::client::Grpc;
use tonic::{Request, Status};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The collector that receives spans over mutual TLS.
#[derive(Clone, Debug, Args)]
pub struct CollectorSettings {
    /// A collector of spans (OTLP over gRPC), called over mutual TLS with our credentials
    #[arg(
        long,
        env = "APP_OTLP_ENDPOINT",
        value_name = "https://HOST:PORT",
        global = true,
        value_parser = Target::parse
    )]
    pub otlp_endpoint: Option<Target>,

    /// The SPIFFE ID that the collector must have
    #[arg(
        long,
        env = "APP_OTLP_SERVER_ID",
        value_name = "spiffe://DOMAIN/PATH",
        global = true,
        value_parser = clap::value_parser!(SpiffeId)
    )]
    pub otlp_server_id: Option<SpiffeId>,

    /// The DNS name or IP address that the collector must have [default: the host of --otlp-endpoint, unless
    /// --otlp-server-id is given]
    #[arg(
        long,
        env = "APP_OTLP_SERVER_NAME",
        value_name = "NAME",
        global = true,
        value_parser = crate::server_name::parse
    )]
    pub otlp_server_name: Option<ServerName<'static>>,
}

impl CollectorSettings {
    /// Exports spans to the collector of these settings over mutual TLS, otherwise as the `OTEL_*` variables say.
    /// `service` is the service name in them, unless a variable sets another. Call it within a tokio runtime.
    ///
    /// # Errors
    /// A variable has an unsupported value, or contradicts these settings.
    pub fn traces(&self, service: &'static str, trust: &Trust) -> Result<Traces, InvalidTracing> {
        let Some(target) = self.otlp_endpoint.clone() else {
            return Traces::from_env(service);
        };
        let named = (self.otlp_server_name.clone(), self.otlp_server_id.clone());
        let expected = ServerIdentity::of(named.0, named.1)
            .unwrap_or_else(|| ServerIdentity::Name(target.server_name()));
        let endpoint = target.to_string();
        let channel = mtls::connect(target, expected, trust.apart(), ChannelOptions::default());
        let collector: Collector = Arc::new(move |spans| {
            let channel = channel.clone();
            Box::pin(async move {
                let sent = export(channel, spans).await;
                sent.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
            })
        });
        Traces::to(service, endpoint, collector)
    }
}

async fn export(channel: Channel, spans: Bytes) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let mut request = Request::new(spans);
    request.set_timeout(PATIENCE);
    let path = PathAndQuery::from_static(EXPORT);
    let answer = client.unary(request, path, Raw).await?;
    Ok(answer.into_inner())
}
