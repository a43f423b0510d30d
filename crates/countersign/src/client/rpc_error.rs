//! A call that failed: the method, the server, the caller and the reason.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base::text::{escape, timestamp};
use mtls::{Snapshot, Targets};
use serde_json::{Value, json};
use telemetry::{REQUEST_ID, code_name};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::program::exit;

/// A call that failed.
#[derive(Clone, Debug)]
pub struct RpcError {
    method: Arc<str>,
    targets: Box<Targets>,
    caller: ClientIdentity,
    status: Box<Status>,
}

/// Who made the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientIdentity {
    /// Our certificate as a peer with the same roots sees it.
    Named {
        names: Vec<String>,
        not_after: SystemTime,
    },
    /// Such a peer would refuse it, and why.
    Doubtful(String),
}

impl RpcError {
    pub(crate) fn new(
        method: &str,
        targets: &Targets,
        caller: ClientIdentity,
        status: Status,
    ) -> Self {
        Self {
            method: method.into(),
            targets: Box::new(targets.clone()),
            caller,
            status: Box::new(status),
        }
    }

    /// Which call it was, by the path that policies name it by: `/package.Service/Method`.
    pub fn method(&self) -> &str {
        &self.method
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

    /// The exit code of a program that made this call and failed by it, one of those in [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self.status.code() {
            Code::Unavailable => exit::UNAVAILABLE,
            Code::Unauthenticated | Code::PermissionDenied => exit::REFUSED,
            _ => exit::FAILED,
        }
    }

    /// Lines for a person: what failed, and the details of its status.
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {self}\n");
        let details = self.status.get_error_details();
        let mut detail = |name: &str, value: &str| {
            text += &format!("  {}: {}\n", escape(name), escape(value));
        };
        if let Some(id) = self.request_id() {
            detail("request_id", id);
        }
        if let Some(info) = details.error_info() {
            detail("reason", &format!("{} ({})", info.reason, info.domain));
            // In the order of the keys, so that the same error is the same text.
            for (key, value) in info.metadata.iter().collect::<BTreeMap<_, _>>() {
                detail(key, value);
            }
        }
        let violations = details.bad_request().map(|bad| &bad.field_violations);
        for violation in violations.into_iter().flatten() {
            detail(
                "field",
                &format!("{} {}", violation.field, violation.description),
            );
        }
        text
    }

    /// For a program: `method`, `target`, `caller`, `code`, `message`, and the details as far as there are any.
    pub fn to_json(&self) -> Value {
        let details = self.status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|bad| &bad.field_violations);
        let violations: Vec<_> = violations
            .into_iter()
            .flatten()
            .map(|violation| json!({ "field": violation.field, "description": violation.description }))
            .collect();
        json!({
            "method": self.method(),
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
        let name = method
            .rsplit_once('/')
            .map_or(&**method, |(_service, name)| name);
        let code = code_name(status.code());
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

impl From<&Snapshot> for ClientIdentity {
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

impl ClientIdentity {
    fn to_json(&self) -> Value {
        match self {
            Self::Named { names, not_after } => {
                json!({ "names": names, "not_after": timestamp(*not_after) })
            }
            Self::Doubtful(reason) => json!({ "refused_by_own_roots": reason }),
        }
    }
}

impl fmt::Display for ClientIdentity {
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
