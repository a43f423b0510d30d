//! Makes a client from settings.

use std::sync::Arc;
use std::time::Duration;

use base::api::{Api, InvalidApi};
use base::reload;
use mtls::{
    ChannelOptions, InvalidCredentials, Refusal, Reload, ServerIdentity, Source, Targets, Trust,
};
use prometheus_client::registry::Registry;
use telemetry::{Observer, Traces};
use tonic::Status;
use tonic_health::pb::health_client::HealthClient;

use crate::client::channel::ClientChannel;
use crate::client::observed::ObservedChannel;
use crate::client::retry::Retry;
use crate::client::rpc_error::RpcError;
use crate::credentials::credentials_next_step;

/// The servers, their expected identities, and our credentials.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where the servers are.
    pub targets: Targets,
    /// Who each must prove to be; the host of its target, by name, unless this says otherwise.
    pub server: Option<ServerIdentity>,
    /// Our credentials and trusted roots.
    pub source: Source,
    /// How they are kept current.
    pub reload: Reload,
    /// How connections are made and kept.
    pub options: ChannelOptions,
    /// The deadline of a call that sets none and has one response, retries included.
    pub deadline: Option<Duration>,
    /// Where the spans of calls go.
    pub traces: Traces,
}

/// The default deadline of a call.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

impl Connection {
    /// A connection to servers whose certificates must name the host of their target.
    pub fn new(targets: impl Into<Targets>, source: Source) -> Self {
        Self {
            targets: targets.into(),
            server: None,
            source,
            reload: Reload::default(),
            options: ChannelOptions::default(),
            deadline: Some(DEFAULT_DEADLINE),
            traces: Traces::default(),
        }
    }

    /// Checks that a server with the same roots accepts our certificate, without dialling one: for a server that calls
    /// others, in its `Server::check`. [`connect`] only warns, since servers may have other roots.
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn check(&self) -> Result<(), SetupError> {
        let (source, reload) = (self.source.clone(), self.reload.clone());
        let trust = Trust::open(identity::Role::Client, source, reload)?;
        let snapshot = trust.current();
        let own = snapshot.own();
        own.map(drop)
            .map_err(|refusal| SetupError::Refused(refusal.clone()))
    }
}

/// A client of an API. Clones share its connections, credentials and retry budget.
#[derive(Clone, Debug)]
pub struct Client {
    channel: ClientChannel,
    observer: Observer,
    trust: Trust,
    targets: Targets,
    retry: Retry,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Our credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// A server with the same roots would refuse our certificate.
    #[error("servers would refuse our certificate: {0}")]
    Refused(Refusal),
    /// The API cannot be read.
    #[error(transparent)]
    Api(#[from] InvalidApi),
}

impl SetupError {
    /// What to do about it, where a command can help.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Credentials(error) => credentials_next_step(error),
            Self::Refused(_) | Self::Api(_) => None,
        }
    }
}

/// Reads our credentials and gives a client of the API with these `descriptors`, an encoded
/// `google.protobuf.FileDescriptorSet`. A server is dialled by the first call. Call it within a tokio runtime.
///
/// # Errors
/// [`SetupError`].
pub fn connect(connection: Connection, descriptors: &[u8]) -> Result<Client, SetupError> {
    let Connection {
        targets,
        server,
        source,
        reload,
        options,
        deadline,
        traces,
    } = connection;
    crate::program::warn_of_ignored_variables();
    let trust = Trust::open(identity::Role::Client, source, reload)?;
    let servers = targets.iter().map(|target| {
        let by_name = || ServerIdentity::Name(target.server_name());
        (target.clone(), server.clone().unwrap_or_else(by_name))
    });
    let channel = mtls::connect_any(servers, trust.clone(), options);
    let sets = [descriptors, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let api = Arc::new(Api::from_descriptor_set(&sets.concat())?);
    let paths = api.paths().map(str::to_owned);
    let observer = Observer::of_client(paths, traces);
    let retry = Retry::default();
    let channel = ClientChannel {
        channel: ObservedChannel::new(channel, observer.clone(), &targets.to_string()),
        api,
        retry: retry.clone(),
        deadline,
    };
    Ok(Client {
        channel,
        observer,
        trust,
        targets,
        retry,
    })
}

impl Client {
    /// The channel for generated clients.
    pub fn channel(&self) -> ClientChannel {
        self.channel.clone()
    }

    /// The generated client of the server's health service.
    pub fn health(&self) -> HealthClient<ClientChannel> {
        HealthClient::new(self.channel.clone())
    }

    /// A status of a call by the generated client, with the server and the caller.
    pub fn error(&self, method: &str, status: Status) -> RpcError {
        let caller = self.trust.current().as_ref().into();
        RpcError::new(method, &self.targets, caller, status)
    }

    /// Registers the metrics of its calls and retries. Of several clients in one process, each needs a
    /// [prefix](Registry::sub_registry_with_prefix).
    pub fn register(&self, registry: &mut Registry) {
        self.observer.register(registry);
        let client = self.clone();
        base::metrics::register(registry, move |families| {
            families.counter(
                "rpc_client_retries",
                "Retries of calls: by policy, or transparently because the call was provably not processed.",
                [
                    ([("kind", "policy")], client.retry.repeated()),
                    ([("kind", "transparent")], client.trust.resent_calls()),
                ],
            )
        });
    }

    /// The metrics of a process that only calls: of its calls, connections and credentials, and its own.
    pub fn metrics(&self) -> Registry {
        let mut registry = Registry::default();
        self.register(&mut registry);
        mtls::register(vec![self.trust.clone()], &mut registry);
        reload::register(vec![("tls", self.trust.input())], &mut registry);
        telemetry::register_log(&mut registry);
        telemetry::register_process(&mut registry);
        registry
    }

    /// Our live credentials.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Where the servers are.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// How idempotent calls are retried.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }
}
