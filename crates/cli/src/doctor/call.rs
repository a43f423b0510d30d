//! What a server answers to a caller that it accepts: its health, its clock, and whether it may call a method.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, header};
use mtls::Channel;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::Attempt;
use super::diagnosis::{Diagnosis, Whose};
use super::openssl::Openssl;
use crate::codes;

/// Clocks that differ by less than this do no harm: certificates begin a few minutes before they are issued.
const TOLERATED_SKEW: Duration = Duration::from_secs(60);

/// How long a method may take to refuse us. One that waits for our first message has let us in.
const REFUSAL: Duration = Duration::from_secs(1);

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Asks the server `who` over `channel`.
pub(super) async fn examine(
    channel: Channel,
    attempt: &Attempt,
    who: &str,
    openssl: &Openssl<'_>,
) -> Result<Diagnosis, Diagnosis> {
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(attempt.patience);
    let answer = HealthClient::new(channel.clone()).check(request).await;
    let shown = openssl.handshake();
    let mut health = "it does not offer a health check";
    match answer {
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
            if answer.get_ref().status() != ServingStatus::Serving {
                let cause = format!("{who} answers that it is {:?}", answer.get_ref().status());
                return Err(Diagnosis::new(
                    codes::NOT_SERVING,
                    Whose::TheServers,
                    cause,
                    shown,
                ));
            }
            health = "it is serving";
        }
        // With a method, that method is the question.
        Err(status) if status.code() == Code::PermissionDenied && attempt.method.is_some() => {
            health = "we may not ask for its health";
        }
        Err(status) if status.code() == Code::Unimplemented => {}
        Err(status) => return Err(failed(HEALTH, &status, who, shown)),
    }
    if let Some(method) = &attempt.method
        && let Some(status) = refusal(channel, method.clone()).await
    {
        return Err(failed(method.as_str(), &status, who, shown));
    }
    let allowed = attempt.method.as_ref().map_or(String::new(), |method| {
        format!(", and we may call {method}")
    });
    let cause = format!("{who} is who it should be, it accepts our certificate, {health}{allowed}");
    Ok(Diagnosis::new(codes::HEALTHY, Whose::Nobodys, cause, shown))
}

fn failed(method: &str, status: &Status, who: &str, shown: String) -> Diagnosis {
    let info = status.get_details_error_info();
    let decision = info
        .as_ref()
        .and_then(|info| info.metadata.get("decision_id"))
        .map_or(String::new(), |id| format!(" (decision {id})"));
    let whose = if status.code() == Code::PermissionDenied {
        Whose::ThePolicys
    } else {
        Whose::TheServers
    };
    let code = info.map_or_else(|| codes::RPC_FAILED.to_owned(), |info| info.reason);
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
async fn refusal(mut channel: Channel, method: PathAndQuery) -> Option<Status> {
    let mut request = Request::new(Body::new(NoMessage));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = method.into();
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    let answer = match timeout(REFUSAL, channel.call(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => return Some(status),
        Err(_it_waits) => return None,
    };
    Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok)
}

/// A request that has begun and does not go on.
struct NoMessage;

impl http_body::Body for NoMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Poll::Pending
    }
}
