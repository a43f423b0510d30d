//! The response of a call: its deadline, and errors as gRPC statuses that say what happened.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::client::dial::{ConnectError, InFlight, MAX_METADATA, OpenConnection};
use crate::codes;
use crate::h2_error::h2_error;
use crate::handshake_error::HandshakeError;
use crate::refusal::Refusal;

/// The domain of the reasons in `google.rpc.ErrorInfo` that come from this side of the wire.
pub const ERROR_DOMAIN: &str = "mtls.countersign";

/// Resolves at the deadline of a call.
pub(crate) type Deadline = Pin<Box<Sleep>>;

/// The deadline that a request asks for by `grpc-timeout`, from now on.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Deadline>, Status> {
    let timeout = base::call::timeout(headers)?;
    Ok(timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))))
}

pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the response was complete")
}

/// The deadline passed before there was a connection. Nothing was sent.
pub(crate) fn never_connected(last: Option<ConnectError>) -> Status {
    let text = "the deadline passed before there was a connection";
    match last {
        Some(error) => with_reason(
            Code::DeadlineExceeded,
            format!("{text}; the last attempt: {error}"),
            error.code(),
        ),
        None => Status::deadline_exceeded(text),
    }
}

/// There is no connection, and so no call. A refusal of our own certificate needs our action; other errors may be
/// temporary.
pub(crate) fn unreachable(error: &ConnectError) -> Status {
    let code = match error.handshake() {
        Some(HandshakeError::RefusedByPeer(_)) => Code::Unauthenticated,
        Some(_) | None => Code::Unavailable,
    };
    with_reason(code, error.to_string(), error.code())
}

/// The server's certificate was no longer accepted while the call was open.
fn server_no_longer_accepted(refusal: &Refusal) -> Status {
    let text = format!(
        "the call was ended, because the server's certificate is no longer accepted: {refusal}"
    );
    with_reason(Code::Unavailable, text, refusal.code())
}

fn with_reason(code: Code, message: String, reason: &str) -> Status {
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []),
    )
}

/// How far a failed request can have got (gRFC A6, "transparent retries").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No byte was sent: the connection was closed before.
    NeverSent,
    /// The server said that it did not process it: it was above the last stream of a GOAWAY (RFC 9113 §6.8), or was
    /// refused (§8.7).
    Refused,
    /// It may have been processed.
    Unknown,
}

pub(crate) fn progress(error: &TrySendError<Request<Body>>) -> Progress {
    if error.message().is_some() || error.error().is_canceled() {
        return Progress::NeverSent;
    }
    let refused = h2_error(error.error()).is_some_and(|h2| {
        let goaway = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
        let reset = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        h2.is_remote() && (goaway || reset)
    });
    if refused {
        Progress::Refused
    } else {
        Progress::Unknown
    }
}

/// Whether a response shows that the server works, even if the call failed.
pub(crate) fn is_served<B>(response: &Response<B>) -> bool {
    let code = if is_grpc(response) {
        base::call::code(response.headers())
    } else {
        code_of_http(response.status())
    };
    code != Code::Unavailable
}

/// The status for a response that is not gRPC, with a body or without (gRPC's http-grpc-status-mapping.md).
pub(crate) fn not_grpc<B>(response: &Response<B>, address: SocketAddr) -> Option<Status> {
    if is_grpc(response) {
        return None;
    }
    let content_type = match response.headers().get(header::CONTENT_TYPE) {
        // Quoted and escaped, so that a peer cannot write a log line.
        Some(content_type) => format!("content type {content_type:?}"),
        None => "no content type".to_owned(),
    };
    let status = response.status();
    let text = format!(
        "the response from {address} is not gRPC: HTTP status {} with {content_type}",
        status.as_u16()
    );
    Some(with_reason(code_of_http(status), text, codes::NOT_GRPC))
}

/// Whether a response says that it is gRPC. A response with `grpc-status` may omit the content type.
fn is_grpc<B>(response: &Response<B>) -> bool {
    let has_status = response.headers().contains_key(Status::GRPC_STATUS);
    match response.headers().get(header::CONTENT_TYPE) {
        Some(content_type) => {
            let rest = content_type
                .as_bytes()
                .split_at_checked(GRPC.len())
                .filter(|(grpc, _)| grpc.eq_ignore_ascii_case(GRPC))
                .map(|(_, rest)| rest);
            matches!(rest, Some([] | [b'+' | b';' | b' ', ..]))
                && (has_status || response.status() == StatusCode::OK)
        }
        None => has_status,
    }
}

const GRPC: &[u8] = b"application/grpc";

fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        // 431 as grpc-java does: the call's metadata is at fault.
        400 | 431 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// A failed HTTP/2 stream in gRPC's terms ("HTTP2 Transport Mapping" of the gRPC over HTTP/2 protocol).
pub(crate) fn status(error: &hyper::Error, from: &OpenConnection) -> Status {
    if let Some(refusal) = from.lost() {
        return server_no_longer_accepted(&refusal);
    }
    let address = from.address;
    let h2 = h2_error(error);
    if let Some(h2) = h2.filter(|h2| h2.is_library()) {
        return refused_by_us(h2, address);
    }
    let goaway = h2
        .filter(|h2| h2.is_go_away())
        .and_then(|_| from.last_words.get())
        .map_or_else(String::new, |said| format!(": {said}"));
    let reason = h2.and_then(h2::Error::reason);
    match reason {
        Some(h2::Reason::CANCEL) => Status::cancelled(format!("{address} cancelled the call")),
        Some(h2::Reason::ENHANCE_YOUR_CALM) => {
            Status::resource_exhausted(format!("{address} asks for fewer calls{goaway}"))
        }
        Some(h2::Reason::INADEQUATE_SECURITY) => {
            Status::permission_denied(format!("{address} asks for a safer connection{goaway}"))
        }
        Some(h2::Reason::REFUSED_STREAM) => {
            Status::unavailable(format!("{address} did not process the call{goaway}"))
        }
        // Of a stream that was reset so, nobody knows how far it got.
        Some(h2::Reason::NO_ERROR) if h2.is_some_and(h2::Error::is_go_away) => {
            Status::unavailable(format!("{address} did not process the call{goaway}"))
        }
        Some(reason) => Status::internal(format!("{address} reset the stream: {reason}{goaway}")),
        None => Status::unavailable(format!(
            "the connection to {address} was lost during the call: {}",
            innermost(error)
        )),
    }
}

/// The error when we ended the stream because of what the server sent.
fn refused_by_us(error: &h2::Error, address: SocketAddr) -> Status {
    let text = error.to_string();
    // h2 offers no other way to tell these apart.
    let too_large = ["header_list_way_too_large", "too_many_continuations"]
        .iter()
        .any(|name| text.contains(name));
    if too_large {
        let text = format!(
            "the metadata of the response from {address} has more than the {MAX_METADATA} bytes that this client accepts"
        );
        return with_reason(
            Code::ResourceExhausted,
            text,
            codes::ANSWER_METADATA_TOO_LARGE,
        );
    }
    let text = format!(
        "the response from {address} violates HTTP/2, or its metadata has more than the {MAX_METADATA} bytes that this client accepts: {text}"
    );
    with_reason(Code::Internal, text, codes::ANSWER_MALFORMED)
}

/// The trailers have no status. h2 drops what is over the limit of them, and does not say so.
fn no_status(address: SocketAddr) -> Status {
    let text = format!(
        "the trailers of the response from {address} have no grpc-status, or more than the {MAX_METADATA} bytes that this client accepts"
    );
    with_reason(Code::Unknown, text, codes::ANSWER_MALFORMED)
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The body of a response: its errors are gRPC statuses, and it ends at the deadline of its call, or when its server is
/// no longer accepted. Its call is in flight until then.
pub(crate) struct ClientBody {
    state: Option<OpenBody>,
}

struct OpenBody {
    incoming: Incoming,
    call: InFlight,
    deadline: Option<Deadline>,
}

impl ClientBody {
    pub(crate) fn new(incoming: Incoming, call: InFlight, deadline: Option<Deadline>) -> Self {
        let state = Some(OpenBody {
            incoming,
            call,
            deadline,
        });
        Self { state }
    }
}

impl OpenBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Before the data: what has arrived already must not keep the call open.
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(deadline_exceeded())));
        }
        let connection = self.call.connection();
        if let Some(refusal) = connection.lost() {
            return Poll::Ready(Some(Err(server_no_longer_accepted(&refusal))));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| status(&error, connection))?;
            match frame.trailers_ref() {
                Some(trailers) if !trailers.contains_key(Status::GRPC_STATUS) => {
                    Err(no_status(connection.address))
                }
                Some(_) | None => Ok(frame),
            }
        }))
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(open) = &mut self.state else {
            return Poll::Ready(None);
        };
        let frame = ready!(open.poll(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.state = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.state
            .as_ref()
            .is_none_or(|open| open.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // The body may end early, so its size is unknown.
        SizeHint::default()
    }
}
