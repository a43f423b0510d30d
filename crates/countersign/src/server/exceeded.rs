//! The limits that a call can exceed, and the status that its caller gets.

use std::time::Duration;

use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::codes;

/// The domain of the reasons in `google.rpc.ErrorInfo` that come from a server's limits.
pub const ERROR_DOMAIN: &str = "server.countersign";

/// How long a refused caller should wait: this, and up to as long again, so that not all retry at once.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A limit that a call exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Exceeded {
    #[error("the server has reached its limit of open calls")]
    ServerBusy,
    #[error("this caller has reached its limit of open calls")]
    CallerBusy,
    #[error("the metadata of a call has at most {max_bytes} bytes: send less")]
    MetadataTooLarge { max_bytes: usize },
    #[error("the call's first message did not arrive within {limit:?}")]
    FirstMessageTooSlow { limit: Duration },
}

impl Exceeded {
    /// The stable name of this reason, as docs/errors.md lists it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::ServerBusy => codes::SERVER_BUSY,
            Self::CallerBusy => codes::CALLER_BUSY,
            Self::MetadataTooLarge { .. } => codes::METADATA_TOO_LARGE,
            Self::FirstMessageTooSlow { .. } => codes::FIRST_MESSAGE_TOO_SLOW,
        }
    }
}

impl From<Exceeded> for Status {
    fn from(exceeded: Exceeded) -> Self {
        let mut details = ErrorDetails::with_error_info(exceeded.reason(), ERROR_DOMAIN, []);
        let code = match exceeded {
            Exceeded::ServerBusy | Exceeded::CallerBusy => {
                details.set_retry_info(Some(RETRY_DELAY.mul_f64(1.0 + fastrand::f64())));
                Code::ResourceExhausted
            }
            Exceeded::MetadataTooLarge { .. } => Code::ResourceExhausted,
            Exceeded::FirstMessageTooSlow { .. } => Code::DeadlineExceeded,
        };
        Self::with_error_details(code, exceeded.to_string(), details)
    }
}
