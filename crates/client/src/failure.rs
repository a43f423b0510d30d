//! Why a command failed: for people, for programs, and as an exit code.
//!
//! Text of a peer or a file is always escaped.

use std::io;

use countersign::mtls::Unbound;
use countersign::program::exit;
use countersign::telemetry::InvalidTracing;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::items::InvalidFile;
use countersign::client::{NoTraces, RpcError, SetupError};

use crate::method::Method;
use countersign::base::text::escape;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no client, such as without credentials; nothing was sent.
    #[error(transparent)]
    Setup(#[from] SetupError),
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

impl From<NoTraces> for Failure {
    fn from(error: NoTraces) -> Self {
        match error {
            NoTraces::Tracing(error) => error.into(),
            NoTraces::Credentials(error) => SetupError::from(error).into(),
        }
    }
}

impl Failure {
    /// The exit code for it, one of those in [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setup(_)
            | Self::File(_)
            | Self::Usage(_)
            | Self::Unbound(_)
            | Self::Tracing(_) => exit::USAGE,
            Self::Rpc(error) => error.exit_code(),
            Self::NotServing(_) => exit::UNAVAILABLE,
            Self::NotReserved { .. } | Self::NotReady(_) | Self::Output(_) | Self::System(_) => {
                exit::FAILED
            }
        }
    }

    /// Lines for a person: what failed, the details, and what to do.
    pub fn to_text(&self) -> String {
        let mut text = match self.rpc() {
            Some(error) => error.to_text(),
            None => format!("error: {}\n", self.line()),
        };
        if let Some(next) = self.next_step() {
            text += &format!("  next: {next}\n");
        }
        text
    }

    /// The same for a program. The names of fields are stable; `code` is that of `google.rpc.Code`.
    pub fn to_json(&self) -> Value {
        let mut error = match self.rpc() {
            Some(error) => error.to_json(),
            None => json!({ "message": self.to_string() }),
        };
        error["exit_code"] = self.exit_code().into();
        error["next_step"] = self.next_step().into();
        json!({ "error": error })
    }

    /// The call that failed.
    fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc(error) => Some(error),
            _ => None,
        }
    }

    /// What failed, on one line.
    fn line(&self) -> String {
        match self {
            // Escaped where they are made; again would double every backslash.
            Self::File(_) | Self::Rpc(_) => self.to_string(),
            _ => escape(&self.to_string()),
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
            Self::Setup(error) => error.next_step(),
            // The others say it themselves.
            _ => None,
        }
    }
}

/// What to do about a call of this service that failed.
fn next_step(error: &RpcError) -> Option<String> {
    let details = error.status().get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let step = match (error.status().code(), reason) {
        (Code::NotFound, _) => "check the spelling, or import the item",
        (Code::AlreadyExists, _) => "leave --id out for a new reservation",
        (Code::FailedPrecondition, "INSUFFICIENT_STOCK") => "reserve fewer, or wait for stock",
        (Code::FailedPrecondition, "QUANTITY_BELOW_RESERVED") => {
            "import at least as many as are reserved"
        }
        (Code::DeadlineExceeded, _) => match Method::of_path(error.method()) {
            Some(Method::ReserveStock | Method::ReserveMany) => {
                "give it more time with --deadline; retry with the same identifiers"
            }
            Some(
                Method::GetItem | Method::WatchStock | Method::ImportItems | Method::HealthCheck,
            )
            | None => "give it more time by --deadline; to repeat it is safe",
        },
        _ => return error.next_step(),
    };
    Some(step.to_owned())
}
