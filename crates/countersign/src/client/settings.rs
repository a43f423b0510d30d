//! The settings of a client: each setting is a flag and an `APP_*` variable of the same name.

use clap::Args;
#[cfg(feature = "otlp")]
use identity::Role;
use identity::SpiffeId;
use mtls::{ChannelOptions, InvalidCredentials, ServerIdentity, Targets};
use pki_types::ServerName;
use telemetry::{InvalidTracing, Traces};

use crate::client::connection::{Connection, DEFAULT_DEADLINE};
#[cfg(feature = "otlp")]
use crate::collector::CollectorSettings;
use crate::credentials::CredentialSettings;
use crate::program::Duration;

/// Why spans cannot go where the settings say.
#[derive(Debug, thiserror::Error)]
pub enum NoTraces {
    /// A variable of OpenTelemetry's asks for what is not there.
    #[error(transparent)]
    Tracing(#[from] InvalidTracing),
    /// Our credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
}

/// Where the server is, who it must be, and who we are.
#[derive(Clone, Debug, Args)]
pub struct ConnectionSettings {
    /// The server, or several servers of one service, separated by commas; each call goes to one of them
    #[arg(
        long,
        env = "APP_TARGET",
        default_value = "https://localhost:50051",
        value_name = "https://HOST:PORT,...",
        global = true,
        value_parser = Targets::parse
    )]
    pub target: Targets,

    /// Our credentials and trusted roots
    #[command(flatten)]
    pub credentials: CredentialSettings,

    /// The SPIFFE ID that the server must have
    #[arg(
        long,
        env = "APP_SERVER_ID",
        value_name = "spiffe://DOMAIN/PATH",
        global = true,
        value_parser = clap::value_parser!(SpiffeId)
    )]
    pub server_id: Option<SpiffeId>,

    /// The DNS name or IP address that the server must have [default: the host of its target, unless
    /// --server-id is given]
    #[arg(
        long,
        env = "APP_SERVER_NAME",
        value_name = "NAME",
        global = true,
        value_parser = crate::server_name::parse
    )]
    pub server_name: Option<ServerName<'static>>,

    /// Where the spans of calls go
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    pub collector: CollectorSettings,

    /// How long a call may take, including retries [default: 5s; none for a streaming response]
    #[arg(
        long,
        env = "APP_DEADLINE",
        value_name = "DURATION",
        global = true,
        value_parser = Duration::positive
    )]
    pub deadline: Option<Duration>,

    /// While no server can be reached, wait for one until the deadline instead of failing at once
    #[arg(long, env = "APP_WAIT_FOR_READY", global = true)]
    pub wait_for_ready: bool,
}

impl ConnectionSettings {
    /// How long a call with one answer may take.
    pub fn deadline(&self) -> std::time::Duration {
        self.deadline
            .map_or(DEFAULT_DEADLINE, |Duration(deadline)| deadline)
    }

    /// Where the spans of calls go: to the collector of these settings by mutual TLS, else as the `OTEL_*` variables
    /// say. `program` is the name in them, unless a variable gives another. Call it within a tokio runtime.
    ///
    /// # Errors
    /// A variable asks for what is not there; or the credentials, which the way to a collector reads by itself, cannot
    /// be used.
    pub fn traces(&self, program: &'static str) -> Result<Traces, NoTraces> {
        #[cfg(feature = "otlp")]
        if self.collector.otlp_endpoint.is_some() {
            let trust = self.credentials.open(Role::Client)?;
            return Ok(self.collector.traces(program, &trust)?);
        }
        Ok(Traces::from_env(program)?)
    }

    /// These settings, with where the spans of calls go.
    pub fn connection(&self, traces: Traces) -> Connection {
        let settings = self;
        Connection {
            targets: settings.target.clone(),
            server: ServerIdentity::of(settings.server_name.clone(), settings.server_id.clone()),
            source: settings.credentials.source(),
            reload: settings.credentials.reload(),
            options: ChannelOptions {
                wait_for_ready: settings.wait_for_ready,
                ..ChannelOptions::default()
            },
            deadline: Some(settings.deadline()),
            traces,
        }
    }
}
