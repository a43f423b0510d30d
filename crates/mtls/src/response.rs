//! What a caller gets back: the response under its deadline, and errors in gRPC's terms that say what happened.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::dial::{ConnectError, Ending, InFlight};
use crate::handshake::HandshakeError;
use crate::verify::Refusal;

/// The domain of the reasons in `google.rpc.ErrorInfo` that come from this side of the wire.
pub const ERROR_DOMAIN: &str = "mtls.countersign";

/// The deadline that a request asks for by `grpc-timeout`, from now on.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let timeout = base::call::timeout(headers)?;
    Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
}

pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the response was complete")
}

/// No connection, and so no call. Our own refused certificate is ours to mend; the rest may mend itself.
pub(crate) fn unreachable(error: &ConnectError) -> Status {
    let code = match error.handshake() {
        Some(HandshakeError::RefusedByPeer(_)) => Code::Unauthenticated,
        Some(_) | None => Code::Unavailable,
    };
    with_reason(code, error.to_string(), error.code())
}

/// The server lost our trust while the call was open.
pub(crate) fn no_longer_believed(refusal: &Refusal) -> Status {
    let text =
        format!("the call was given up, because the server is no longer believed: {refusal}");
    with_reason(Code::Unavailable, text, refusal.code())
}

fn with_reason(code: Code, message: String, reason: &str) -> Status {
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []),
    )
}

/// Resolves when the server of a connection is no longer believed.
pub(crate) async fn lost(mut ending: watch::Receiver<Ending>) -> Refusal {
    loop {
        if let Ending::Lost(refusal) = &*ending.borrow_and_update() {
            return refusal.clone();
        }
        if ending.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Whether the server cannot have seen the request: it never left, or was above the last stream of a GOAWAY
/// (RFC 9113 §6.8), or was refused before processing (§8.7).
pub(crate) fn was_not_processed(error: &TrySendError<Request<Body>>) -> bool {
    if error.message().is_some() || error.error().is_canceled() {
        return true;
    }
    h2_error(error.error()).is_some_and(|h2| {
        let goaway = h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR);
        goaway || h2.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

pub(crate) fn h2_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return Some(h2);
        }
        source = error.source();
    }
    None
}

/// Whether these headers of a response say that the server does its work, be it by an error of the call.
pub(crate) fn is_served(headers: &HeaderMap) -> bool {
    let unavailable = Code::Unavailable as i32;
    headers
        .get(Status::GRPC_STATUS)
        .is_none_or(|status| status.as_bytes() != unavailable.to_string().as_bytes())
}

/// A failed HTTP/2 stream in gRPC's terms ("HTTP2 Transport Mapping" of the gRPC over HTTP/2 protocol).
pub(crate) fn status(error: &hyper::Error, address: SocketAddr) -> Status {
    let reason = h2_error(error).and_then(h2::Error::reason);
    match reason {
        Some(h2::Reason::CANCEL) => Status::cancelled(format!("{address} cancelled the call")),
        Some(h2::Reason::ENHANCE_YOUR_CALM) => {
            Status::resource_exhausted(format!("{address} asks for fewer calls"))
        }
        Some(h2::Reason::INADEQUATE_SECURITY) => {
            Status::permission_denied(format!("{address} asks for a safer connection"))
        }
        Some(h2::Reason::REFUSED_STREAM | h2::Reason::NO_ERROR) => {
            Status::unavailable(format!("{address} did not take the call"))
        }
        Some(reason) => Status::internal(format!("{address} broke the stream: {reason}")),
        None => Status::unavailable(format!(
            "the connection to {address} was lost during the call: {}",
            innermost(error)
        )),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The body of a response, under the deadline of its call and the authority of its connection.
pub(crate) fn body(
    incoming: Incoming,
    address: SocketAddr,
    in_flight: InFlight,
    ending: watch::Receiver<Ending>,
    deadline: Option<Instant>,
) -> Body {
    let incoming = Body::new(CallBody {
        incoming,
        address,
        _in_flight: in_flight,
    });
    base::call::until_body(incoming, async move {
        let late = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late => deadline_exceeded(),
            refusal = lost(ending) => no_longer_believed(&refusal),
        }
    })
}

/// A response as it arrives, with its errors in gRPC's terms; counted as in flight until it is dropped.
struct CallBody {
    incoming: Incoming,
    address: SocketAddr,
    _in_flight: InFlight,
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let address = self.address;
        Pin::new(&mut self.incoming)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(|error| status(&error, address))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
