//! Why a command failed: for people, for programs, and as an exit code.
//!
//! Never text of a peer or a file that is not escaped, never a bare "transport error".

use std::io;

use countersign::mtls::{self, InvalidCredentials, Unbound};
use countersign::program::exit;
use countersign::telemetry::InvalidTracing;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::items::InvalidFile;
use countersign::client::{ConnectError, InvalidDescriptors, RpcError};

use crate::method::Method;
use countersign::base::text::escape;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Our credentials cannot be used; nothing was sent.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// Our own API cannot be read, which no setting can change.
    #[error(transparent)]
    Descriptors(#[from] InvalidDescriptors),
    /// A file cannot be used; nothing was sent.
    #[error(transparent)]
    File(#[from] InvalidFile),
    /// A setting does not fit the others; nothing was sent.
    #[error("{0}")]
    Usage(&'static str),
    /// A call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Some reservations of a file were answered by a failure.
    #[error("{failed} of {all} reservations were not made")]
    NotReserved {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// The server answered, and is not serving.
    #[error("the server answers that it is {0}")]
    NotServing(&'static str),
    /// The program that was asked is not ready, or not there.
    #[error(transparent)]
    NotReady(#[from] countersign::admin::NotReady),
    /// A result could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[source] io::Error),
    /// The system refuses to tell us of signals, or the address of a port.
    #[error("the system refuses: {0}")]
    System(#[source] io::Error),
    /// The admin port cannot be bound.
    #[error("the admin port: {0}")]
    Unbound(#[from] Unbound),
    /// A variable of OpenTelemetry's cannot be used.
    #[error(transparent)]
    Tracing(#[from] InvalidTracing),
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Credentials(error) => error.into(),
            ConnectError::Descriptors(error) => error.into(),
        }
    }
}

impl Failure {
    /// The exit code for it, one of those in [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Credentials(_)
            | Self::Descriptors(_)
            | Self::File(_)
            | Self::Usage(_)
            | Self::Unbound(_)
            | Self::Tracing(_) => exit::USAGE,
            Self::Rpc(error) => exit_code(error.status().code()),
            Self::NotServing(_) => exit::UNAVAILABLE,
            Self::NotReserved { .. } | Self::NotReady(_) | Self::Output(_) | Self::System(_) => {
                exit::FAILED
            }
        }
    }

    /// Lines for a person: what failed, the details, and what to do.
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.line());
        if let Self::Rpc(error) = self {
            let details = error.status().get_error_details();
            let mut detail = |name: &str, value: &str| {
                text += &format!("  {}: {}\n", escape(name), escape(value));
            };
            if let Some(id) = error.request_id() {
                detail("request_id", id);
            }
            if let Some(info) = details.error_info() {
                detail("reason", &format!("{} ({})", info.reason, info.domain));
                for (key, value) in sorted(&info.metadata) {
                    detail(key, value);
                }
            }
            for violation in details
                .bad_request()
                .iter()
                .flat_map(|bad| &bad.field_violations)
            {
                detail(
                    "field",
                    &format!("{} {}", violation.field, violation.description),
                );
            }
        }
        if let Some(next) = self.next_step() {
            text += &format!("  next: {next}\n");
        }
        text
    }

    /// The same for a program. The names of fields are stable; `code` is that of `google.rpc.Code`.
    pub fn to_json(&self) -> Value {
        let mut error = match self {
            Self::Rpc(error) => error.to_json(),
            Self::Credentials(_)
            | Self::Descriptors(_)
            | Self::File(_)
            | Self::Usage(_)
            | Self::NotReserved { .. }
            | Self::NotServing(_)
            | Self::NotReady(_)
            | Self::Output(_)
            | Self::Unbound(_)
            | Self::Tracing(_)
            | Self::System(_) => json!({ "message": self.to_string() }),
        };
        error["exit_code"] = self.exit_code().into();
        error["next_step"] = self.next_step().into();
        json!({ "error": error })
    }

    /// What failed, on one line.
    fn line(&self) -> String {
        match self {
            // Escaped where they are made; again would double every backslash.
            Self::File(_) | Self::Rpc(_) => self.to_string(),
            Self::Credentials(_)
            | Self::Descriptors(_)
            | Self::Usage(_)
            | Self::NotReserved { .. }
            | Self::NotServing(_)
            | Self::NotReady(_)
            | Self::Output(_)
            | Self::Unbound(_)
            | Self::Tracing(_)
            | Self::System(_) => escape(&self.to_string()),
        }
    }

    /// What to do about it.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Rpc(error) => next_step(error),
            Self::NotReserved { .. } => Some("see the reason in the line of each".to_owned()),
            Self::NotServing(_) => {
                Some("try again later; the server's log says what it waits for".to_owned())
            }
            Self::Credentials(error) if error.is_missing_file() => Some(
                "make development certificates with `cargo cs pki init`, or name another directory by --tls-dir"
                    .to_owned(),
            ),
            Self::Credentials(error) if error.code() == "CERTIFICATE_EXPIRED" => Some(
                "renew it: `cargo cs pki renew` does so for development certificates".to_owned(),
            ),
            // These say it themselves.
            Self::Credentials(_)
            | Self::Descriptors(_)
            | Self::File(_)
            | Self::Usage(_)
            | Self::Unbound(_)
            | Self::NotReady(_)
            | Self::Tracing(_) => None,
            Self::Output(_) | Self::System(_) => None,
        }
    }
}

/// The exit code for a call that ended with `code`.
fn exit_code(code: Code) -> u8 {
    match code {
        Code::Unavailable => exit::UNAVAILABLE,
        Code::Unauthenticated | Code::PermissionDenied => exit::REFUSED,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => exit::FAILED,
    }
}

fn next_step(error: &RpcError) -> Option<String> {
    let status = error.status();
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("", |info| info.reason.as_str());
    let ours = info.is_some_and(|info| info.domain == mtls::ERROR_DOMAIN);
    let doctor = || {
        let target = error.targets().first().to_string();
        let address = target.trim_start_matches("https://").to_owned();
        format!("`countersign doctor {address}`, with the same --tls-dir, names the cause")
    };
    if let Some(step) = ours.then(|| step_for(reason)).flatten() {
        return Some(step.to_owned());
    }
    let step = match status.code() {
        Code::Unauthenticated => doctor(),
        Code::Unavailable if ours && reason != "UNREACHABLE" => doctor(),
        Code::Unavailable => format!("start the server, or try again; {}", doctor()),
        Code::PermissionDenied => {
            let decision = info.and_then(|info| info.metadata.get("decision_id"));
            let ask = match decision {
                Some(id) => format!("ask the server's operator about decision {}", escape(id)),
                None => "ask the server's operator".to_owned(),
            };
            let method = error.method();
            format!(
                "{ask}; `countersign policy explain --method {method}` says what the policy wants"
            )
        }
        Code::InvalidArgument => "mend what is named above; sent again, it fails again".to_owned(),
        Code::NotFound => "check the spelling, or import the item".to_owned(),
        Code::AlreadyExists => "leave --id out for a new reservation".to_owned(),
        Code::FailedPrecondition if reason == "INSUFFICIENT_STOCK" => {
            "reserve fewer, or wait for stock".to_owned()
        }
        Code::FailedPrecondition if reason == "QUANTITY_BELOW_RESERVED" => {
            "import at least as many as are reserved".to_owned()
        }
        Code::ResourceExhausted => match details.retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => format!("try again after {} ms", delay.as_millis()),
            None => "send less at once".to_owned(),
        },
        Code::DeadlineExceeded => match Method::of_path(error.method()) {
            Some(Method::ReserveStock | Method::ReserveMany) => {
                "give it more time by --deadline; repeat it with the same identifiers".to_owned()
            }
            Some(
                Method::GetItem | Method::WatchStock | Method::ImportItems | Method::HealthCheck,
            )
            | None => "give it more time by --deadline; to repeat it is safe".to_owned(),
        },
        Code::Internal | Code::Unknown | Code::DataLoss => {
            "the server's log has the cause".to_owned()
        }
        Code::Unimplemented => "client and server are of different versions: update one".to_owned(),
        Code::Ok
        | Code::Cancelled
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange => return None,
    };
    Some(step)
}

/// What to do about an answer that our side of the wire did not take.
fn step_for(reason: &str) -> Option<&'static str> {
    match reason {
        "NOT_GRPC" => Some("look at what answers there: a proxy, or the port of another program"),
        "CLOSED_AT_ONCE" => Some(
            "look at the log of the server, and at what is between: connections are accepted and closed",
        ),
        "ANSWER_METADATA_TOO_LARGE" | "ANSWER_MALFORMED" => {
            Some("look at the server, and at what is between: the answer is at fault, not the call")
        }
        _ => None,
    }
}

/// In the order of the keys, so that the same error is the same text.
fn sorted(metadata: &std::collections::HashMap<String, String>) -> Vec<(&String, &String)> {
    let mut pairs: Vec<_> = metadata.iter().collect();
    pairs.sort();
    pairs
}
