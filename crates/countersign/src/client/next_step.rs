//! What to do about a call that failed.

use base::text::escape;
use tonic::Code;
use tonic_types::StatusExt as _;

use mtls::codes;

use crate::client::rpc_error::RpcError;
use crate::program::tool;

impl RpcError {
    /// What its caller can do about it, as far as that is the same for every service.
    pub fn next_step(&self) -> Option<String> {
        let status = self.status();
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.map_or("", |info| info.reason.as_str());
        let ours = info.is_some_and(|info| info.domain == mtls::ERROR_DOMAIN);
        let doctor = || {
            let target = self.targets().first().to_string();
            let address = target.trim_start_matches("https://").to_owned();
            format!(
                "`{} doctor {address}`, with the same --tls-dir, names the cause",
                tool()
            )
        };
        if let Some(step) = ours.then(|| step_for(reason)).flatten() {
            return Some(step.to_owned());
        }
        let step = match status.code() {
            Code::Unauthenticated => doctor(),
            Code::Unavailable if reason == crate::codes::DRAINING => {
                "call again: another server answers, or this one when it is back".to_owned()
            }
            Code::Unavailable if ours && reason != codes::UNREACHABLE => doctor(),
            Code::Unavailable => format!("start the server, or try again; {}", doctor()),
            Code::PermissionDenied => {
                let decision = info.and_then(|info| info.metadata.get("decision_id"));
                let ask = match decision {
                    Some(id) => format!("ask the server's operator about decision {}", escape(id)),
                    None => "ask the server's operator".to_owned(),
                };
                let (method, tool) = (self.method(), tool());
                format!(
                    "{ask}; `{tool} policy explain --policy FILE --cert FILE --method {method}` explains the decision"
                )
            }
            Code::InvalidArgument => {
                "correct what is named above; sent again, it fails again".to_owned()
            }
            Code::ResourceExhausted => match details.retry_info().and_then(|info| info.retry_delay)
            {
                Some(delay) => format!("try again after {} ms", delay.as_millis()),
                None => "send less at once".to_owned(),
            },
            Code::DeadlineExceeded => "give it more time by --deadline".to_owned(),
            Code::Internal | Code::Unknown | Code::DataLoss => {
                "the server's log has the cause".to_owned()
            }
            Code::Unimplemented => {
                "client and server are of different versions: update one".to_owned()
            }
            _ => return None,
        };
        Some(step)
    }
}

/// What to do about an answer that our side of the wire did not take.
fn step_for(reason: &str) -> Option<&'static str> {
    match reason {
        codes::NOT_GRPC => {
            Some("find out what responds there: a proxy, or another program on that port")
        }
        codes::CLOSED_AT_ONCE => Some(
            "look at the log of the server, and at any proxy in between: connections are accepted and closed",
        ),
        codes::ANSWER_METADATA_TOO_LARGE | codes::ANSWER_MALFORMED => Some(
            "check the server and any proxy in between: the response is at fault, not the call",
        ),
        _ => None,
    }
}
