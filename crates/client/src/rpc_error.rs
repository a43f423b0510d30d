//! A call that failed: which one, on which server, made by whom, and why.

use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use app::REQUEST_ID;
use mtls::{Snapshot, Targets};
use serde_json::{Value, json};
use telemetry::code_name;
use tonic::Status;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::text::{escape, timestamp};

/// The calls that this client makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Reads one item.
    GetItem,
    /// Reserves units of one item.
    ReserveStock,
    /// Streams levels and their changes.
    WatchStock,
    /// Creates or sets items.
    ImportItems,
    /// Makes many reservations over one stream.
    ReserveMany,
    /// Asks whether a service is serving.
    HealthCheck,
}

impl Method {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::GetItem,
        Self::ReserveStock,
        Self::WatchStock,
        Self::ImportItems,
        Self::ReserveMany,
        Self::HealthCheck,
    ];

    /// The path by which policies name it.
    pub fn path(self) -> &'static str {
        match self {
            Self::GetItem => "/inventory.v1.InventoryService/GetItem",
            Self::ReserveStock => "/inventory.v1.InventoryService/ReserveStock",
            Self::WatchStock => "/inventory.v1.InventoryService/WatchStock",
            Self::ImportItems => "/inventory.v1.InventoryService/ImportItems",
            Self::ReserveMany => "/inventory.v1.InventoryService/ReserveMany",
            Self::HealthCheck => "/grpc.health.v1.Health/Check",
        }
    }

    /// Whether it has exactly one answer, and not a stream of them.
    pub(crate) fn has_one_answer(self) -> bool {
        match self {
            Self::GetItem | Self::ReserveStock | Self::ImportItems | Self::HealthCheck => true,
            Self::WatchStock | Self::ReserveMany => false,
        }
    }

    /// Its name without that of its service.
    pub fn name(self) -> &'static str {
        let path = self.path();
        path.rsplit_once('/').map_or(path, |(_service, name)| name)
    }
}

/// A call that failed.
#[derive(Clone, Debug)]
pub struct RpcError {
    method: Method,
    targets: Box<Targets>,
    caller: Caller,
    status: Box<Status>,
}

/// Who made the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Our certificate as a peer with the same roots sees it.
    Named {
        names: Vec<String>,
        not_after: SystemTime,
    },
    /// Such a peer would refuse it, and why.
    Doubtful(String),
}

impl RpcError {
    pub(crate) fn new(method: Method, targets: &Targets, caller: Caller, status: Status) -> Self {
        Self {
            method,
            targets: Box::new(targets.clone()),
            caller,
            status: Box::new(status),
        }
    }

    /// Which call it was.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Where the servers are.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// What it ended with.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The id under which this call is in the server's log and in ours, if the failure has one.
    pub fn request_id(&self) -> Option<&str> {
        let id = self.status.metadata().get(REQUEST_ID.as_str())?;
        id.to_str().ok().filter(|id| Uuid::try_parse(id).is_ok())
    }

    /// For a program: `method`, `target`, `caller`, `code`, `message`, and the details as far as there are any.
    pub(crate) fn to_json(&self) -> Value {
        let details = self.status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|bad| &bad.field_violations);
        let violations: Vec<_> = violations
            .into_iter()
            .flatten()
            .map(|violation| json!({ "field": violation.field, "description": violation.description }))
            .collect();
        json!({
            "method": self.method.path(),
            "target": self.targets.to_string(),
            "caller": self.caller.to_json(),
            "code": code_name(self.status.code()),
            "message": self.status.message(),
            "request_id": self.request_id(),
            "reason": info.map(|info| &info.reason),
            "domain": info.map(|info| &info.domain),
            "metadata": info.map(|info| &info.metadata),
            "field_violations": violations,
            "retry_delay_ms": details
                .retry_info()
                .and_then(|info| info.retry_delay)
                .and_then(|delay| u64::try_from(delay.as_millis()).ok()),
        })
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            targets,
            caller,
            status,
        } = self;
        let (name, code) = (method.name(), code_name(status.code()));
        write!(
            f,
            "{name} on {} as {caller}: {code}",
            escape(&targets.to_string())
        )?;
        match status.message() {
            "" => Ok(()),
            message => write!(f, ": {}", escape(message)),
        }
    }
}

impl Error for RpcError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.status)
    }
}

impl From<&Snapshot> for Caller {
    fn from(snapshot: &Snapshot) -> Self {
        let own = match snapshot.own() {
            Ok(own) => own,
            Err(refusal) => return Self::Doubtful(refusal.to_string()),
        };
        let ips = own.ip_sans().iter().map(ToString::to_string);
        let texts = [own.uri_sans(), own.dns_sans(), own.email_sans()];
        let mut names: Vec<_> = texts.into_iter().flatten().cloned().chain(ips).collect();
        if names.is_empty() {
            names.push(own.subject().to_owned());
        }
        Self::Named {
            names,
            not_after: own.not_after(),
        }
    }
}

impl Caller {
    fn to_json(&self) -> Value {
        match self {
            Self::Named { names, not_after } => {
                json!({ "names": names, "not_after": timestamp(*not_after) })
            }
            Self::Doubtful(reason) => json!({ "refused_by_own_roots": reason }),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { names, not_after } => {
                let names = escape(&names.join(", "));
                write!(
                    f,
                    "{names} (certificate valid until {})",
                    timestamp(*not_after)
                )
            }
            Self::Doubtful(reason) => {
                write!(
                    f,
                    "a certificate that our own roots refuse ({})",
                    escape(reason)
                )
            }
        }
    }
}
