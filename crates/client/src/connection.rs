//! From settings to a client whose calls can be made.

use mtls::{
    Channel, ChannelOptions, InvalidCredentials, Reload, ServerIdentity, Source, Target, Trust,
};
use proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use tonic::Status;
use tonic_health::pb::health_client::HealthClient;

use crate::retry::Retry;
use crate::rpc_error::{Method, RpcError};

/// Where the server is, who it must be, and who we are.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where the server is.
    pub target: Target,
    /// Who it must prove to be.
    pub server: ServerIdentity,
    /// Our credentials, and the authorities that we believe.
    pub source: Source,
    /// How they are kept current.
    pub reload: Reload,
    /// How connections are made and kept.
    pub options: ChannelOptions,
}

impl Connection {
    /// A connection to a server that must carry the host of the target as its name.
    pub fn new(target: Target, source: Source) -> Self {
        let server = ServerIdentity::Name(target.server_name());
        Self {
            target,
            server,
            source,
            reload: Reload::default(),
            options: ChannelOptions::default(),
        }
    }
}

/// A client of the inventory. Clones share its connections, credentials and retry budget.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    trust: Trust,
    target: Target,
    retry: Retry,
}

/// Reads our credentials and gives a client. The server is dialled by the first call. Call it within a tokio runtime.
///
/// # Errors
/// Our credentials cannot be used.
pub fn connect(connection: Connection) -> Result<Client, InvalidCredentials> {
    let Connection {
        target,
        server,
        source,
        reload,
        options,
    } = connection;
    let trust = Trust::open(identity::Role::Client, source, reload)?;
    let channel = mtls::connect(target.clone(), server, trust.clone(), options);
    Ok(Client {
        channel,
        trust,
        target,
        retry: Retry::default(),
    })
}

impl Client {
    /// The generated client. It never repeats a call, and sets no deadline.
    pub fn inventory(&self) -> InventoryServiceClient<Channel> {
        InventoryServiceClient::new(self.channel.clone())
    }

    /// The generated client of the server's health service.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// A status of a call by the generated client, with where it was made and by whom.
    pub fn error(&self, method: Method, status: Status) -> RpcError {
        let caller = self.trust.current().as_ref().into();
        RpcError::new(method, &self.target, caller, status)
    }

    /// Our live credentials.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Where the server is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How idempotent calls are repeated.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }
}
