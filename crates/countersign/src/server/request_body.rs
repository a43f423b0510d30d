//! The request of a call: its messages are counted before the handler reads them, and it ends with its call, even for
//! a task of the handler that outlives the call. Messages are not copied.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::call::MessageCount;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;

use crate::server::call_state::CallState;

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody<B> {
    /// Until it has ended.
    body: Option<B>,
    count: MessageCount,
    shared: Arc<CallState>,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(body: B, count: MessageCount, shared: Arc<CallState>) -> Self {
        Self {
            body: Some(body),
            count,
            shared,
        }
    }

    fn over(&mut self) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        Poll::Ready(Some(Err(self.shared.request_end())))
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else {
            return Poll::Ready(None);
        };
        if this.shared.has_ended() {
            return this.over();
        }
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending if this.shared.wake_at_end(cx).is_ready() => return this.over(),
            Poll::Pending => {
                this.shared.awaits_more();
                return Poll::Pending;
            }
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let looked = match frame.data_ref() {
                    Some(data) => this.count.look(data),
                    None => Ok(()),
                };
                if this.count.has_one() {
                    this.shared.first_message_came();
                }
                Some(looked.map(|()| frame))
            }
            // There is no message; the handler decides about that.
            Some(Err(error)) => {
                this.shared.first_message_came();
                Some(Err(Status::from_error(error.into())))
            }
            None => {
                this.shared.first_message_came();
                this.count.end().err().map(Err)
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let ended = |body: &B| body.is_end_stream() && self.count.may_end();
        self.body.as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(B::size_hint).unwrap_or_default()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.shared.first_message_came();
    }
}
