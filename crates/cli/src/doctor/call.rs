//! What a server answers to a caller that it accepts: its health, its clock, and whether it may call a method.

use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, header};
use mtls::Channel;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::tokio_stream;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use super::Doctor;
use super::diagnosis::{Diagnosis, Whose};
use crate::codes;

/// Clocks that differ by less than this do no harm: certificates begin a few minutes before they are issued.
const TOLERATED_SKEW: Duration = Duration::from_secs(60);

/// How long a method may take to refuse us. One that waits for our first message has let us in.
const REFUSAL: Duration = Duration::from_secs(1);

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Asks the server `who` over `channel`. `shown` is the command that does the same handshake.
pub(super) async fn examine(
    channel: Channel,
    doctor: &Doctor,
    who: &str,
    shown: String,
) -> Result<Diagnosis, Diagnosis> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(doctor.patience.0);
    let health = match HealthClient::new(channel.clone()).check(request).await {
        Ok(answer) => {
            if let Some(skew) = skew(answer.metadata().as_ref()) {
                let cause = format!("the clock of {who} is {skew} ours");
                return Err(Diagnosis::new(
                    codes::CLOCK_SKEW,
                    Whose::Between,
                    cause,
                    shown,
                ));
            }
            let status = answer.get_ref().status();
            if status != ServingStatus::Serving {
                let (code, whose) = (codes::NOT_SERVING, Whose::TheServers);
                let cause = format!("{who} answers that it is {status:?}");
                return Err(Diagnosis::new(code, whose, cause, shown));
            }
            "it is serving"
        }
        // With a method, that method is the question.
        Err(status) if status.code() == Code::PermissionDenied && doctor.method.is_some() => {
            "we may not ask for its health"
        }
        Err(status) if status.code() == Code::Unimplemented => "it does not offer a health check",
        Err(status) => return Err(failed(HEALTH, &status, who, shown)),
    };
    let allowed = match &doctor.method {
        None => String::new(),
        Some(method) => match refusal(channel, method.clone()).await {
            None => format!(", and we may call {method}"),
            Some(status) => return Err(failed(method.as_str(), &status, who, shown)),
        },
    };
    let cause =
        format!("{who} has the expected identity, accepts our certificate, {health}{allowed}");
    Ok(Diagnosis::new(codes::HEALTHY, Whose::Nobodys, cause, shown))
}

fn failed(method: &str, status: &Status, who: &str, shown: String) -> Diagnosis {
    let whose = match status.code() == Code::PermissionDenied {
        true => Whose::ThePolicys,
        false => Whose::TheServers,
    };
    let (code, decision) = match status.get_details_error_info() {
        None => (codes::RPC_FAILED.to_owned(), String::new()),
        Some(info) => {
            let id = info.metadata.get("decision_id");
            let decision = id.map(|id| format!(" (decision {id})"));
            (info.reason, decision.unwrap_or_default())
        }
    };
    let cause = format!(
        "{who} accepts our certificate and answers {method} with {:?}: {}{decision}",
        status.code(),
        status.message()
    );
    Diagnosis::new(code, whose, cause, shown)
}

/// How the clock of a server whose response has these headers differs from ours, if it does.
fn skew(headers: &HeaderMap) -> Option<String> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    // The date of HTTP (RFC 9110 §5.6.7) is that of mail but for the name of its zone.
    let theirs = OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822).ok()?;
    let (theirs, ours) = (SystemTime::from(theirs), SystemTime::now());
    let (difference, way) = match theirs.duration_since(ours) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    (difference > TOLERATED_SKEW).then(|| format!("{} s {way}", difference.as_secs()))
}

/// How the server refuses a call of `method`, if it does. The call never gets a message, so that it does nothing.
async fn refusal(channel: Channel, method: PathAndQuery) -> Option<Status> {
    let no_message = Request::new(tokio_stream::pending());
    let codec = ProstCodec::<(), ()>::default();
    let mut client = Grpc::new(channel);
    let call = client.streaming(no_message, method, codec);
    match timeout(REFUSAL, call).await {
        Ok(answer) => answer.err(),
        Err(_it_waits) => None,
    }
}
