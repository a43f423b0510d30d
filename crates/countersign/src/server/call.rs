//! Runs one call, from its start to the last byte of its response, ends it early if necessary, and reports its end once.
//!
//! Most calls never wait, so the checks for an early end begin at the first wait. Nothing is missed: the policy is compared
//! by its generation, the lease is checked again, and the deadline counts from the start. A response whose caller does not
//! read waits without being polled, so the same three are compared before each piece of it, and the connection asks
//! whether the call is over ([`mtls::ResponseBody`]).

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::call;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use telemetry::{CallSpan, Entered, REQUEST_ID};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::error;

use crate::events;
use crate::server::call_state::CallState;
use crate::server::load::CallSlot;
use crate::server::metrics::Metrics;
use crate::server::table::BoxedAnswer;

/// How much of a refused request is read, and how long it may take.
const MAX_REST: usize = 64 << 10;
const LINGER: Duration = Duration::from_millis(100);

/// How many pieces a response may have before the checks begin: the message of a unary call.
const UNWATCHED: usize = 1;

/// A call that runs.
pub(crate) struct Run {
    shared: Arc<CallState>,
    metrics: Arc<Metrics>,
    /// Until it is known how it ended.
    open: Option<(CallSpan, Option<CallSlot>)>,
    /// Resolves when one of the [`Ends`](crate::server::ends::Ends) of the call has come.
    end: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
}

impl Run {
    pub(crate) fn new(
        shared: Arc<CallState>,
        metrics: Arc<Metrics>,
        recorded: CallSpan,
        slot: Option<CallSlot>,
    ) -> Self {
        Self {
            shared,
            metrics,
            open: Some((recorded, slot)),
            end: None,
        }
    }

    fn enter(&self) -> Entered {
        telemetry::enter(self.shared.clone())
    }

    /// Whether nothing waits for an end of the call yet.
    fn is_unwatched(&self) -> bool {
        self.end.is_none()
    }

    /// Waits for an end of the call, from now on.
    fn arm(&mut self) {
        if self.is_unwatched() {
            self.end = Some(Box::pin(self.shared.clone().ended()));
        }
    }

    /// Whether an end may have come while nothing waited for it.
    fn may_be_over(&self) -> bool {
        self.is_unwatched() && self.shared.may_be_over()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(end) = self.end.as_mut() else {
            return Poll::Pending;
        };
        let status = ready!(end.as_mut().poll(cx));
        // Before the handler is dropped, so that its tasks learn the reason.
        self.shared.end(Some(&status));
        Poll::Ready(status)
    }

    /// Reports the end of the call, once.
    fn finish(&mut self, code: Code) {
        self.shared.end(None);
        if let Some((recorded, slot)) = self.open.take() {
            drop(slot);
            self.metrics.calls.ended(self.shared.call(), recorded, code);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.open.is_some() {
            let _entered = self.enter();
            self.finish(Code::Cancelled);
        }
    }
}

/// What a call waits for.
pub(crate) enum CallWork {
    /// Nothing: this is its answer.
    Answered(Response<Body>),
    /// Its handler.
    Running(BoxedAnswer),
    /// The rest of its request, before this answer. Otherwise HTTP/2 would reset the stream of each refused call, and treat
    /// a caller that is refused often as one that violates the protocol.
    Refused(Response<Body>, Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl CallWork {
    /// Answers with `status`, whatever the request still says.
    pub(crate) fn refused<B>(status: &Status, request: Request<B>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        Self::Refused(
            status.clone().into_http(),
            Box::pin(read(request.into_body())),
        )
    }
}

/// Reads the rest of a refused request, as far as it is there soon and is short.
async fn read<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut left = MAX_REST;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            left = match left.checked_sub(bytes) {
                Some(left) => left,
                None => break,
            };
        }
    };
    // The rest is not read.
    drop(timeout(LINGER, rest).await);
}

/// The future of a call. A request that is not a gRPC call has no [`Run`].
#[must_use = "a call runs when it is polled"]
pub(crate) struct Call {
    work: Option<CallWork>,
    run: Option<Run>,
}

impl Call {
    /// A call that does this.
    pub(crate) fn new(work: CallWork, run: Run) -> Self {
        Self {
            work: Some(work),
            run: Some(run),
        }
    }

    /// The answer to what is no call.
    pub(crate) fn none(answer: Response<Body>) -> Self {
        Self {
            work: Some(CallWork::Answered(answer)),
            run: None,
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        if let Some(run) = self.run.as_mut() {
            if run.may_be_over() {
                run.arm();
            }
            if let Poll::Ready(status) = run.poll_end(cx) {
                discard(self.work.take());
                return Poll::Ready(status.into_http());
            }
        }
        let work = match self.work.take() {
            Some(CallWork::Answered(answer)) => return Poll::Ready(answer),
            Some(CallWork::Running(work)) => work,
            Some(CallWork::Refused(answer, mut rest)) => {
                if rest.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(answer);
                }
                self.work = Some(CallWork::Refused(answer, rest));
                return Poll::Pending;
            }
            None => return Poll::Pending,
        };
        let work = self.work.insert(CallWork::Running(work));
        let polled = catch_unwind(AssertUnwindSafe(|| match work {
            CallWork::Running(work) => work.as_mut().poll(cx),
            CallWork::Answered(_) | CallWork::Refused(..) => Poll::Pending,
        }));
        match polled {
            Ok(Poll::Ready(Ok(answer))) => {
                discard(self.work.take());
                Poll::Ready(answer)
            }
            Ok(Poll::Ready(Err(never))) => match never {},
            Ok(Poll::Pending) => {
                let Some(run) = self.run.as_mut().filter(|run| run.is_unwatched()) else {
                    return Poll::Pending;
                };
                run.arm();
                let status = ready!(run.poll_end(cx));
                discard(self.work.take());
                Poll::Ready(status.into_http())
            }
            Err(_panic) => {
                discard(self.work.take());
                Poll::Ready(panicked().into_http())
            }
        }
    }
}

impl Future for Call {
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _entered = self.run.as_ref().map(Run::enter);
        let mut response = ready!(self.poll_answer(cx));
        let mut run = self.run.take();
        if let Some(run) = &mut run {
            let id = run.shared.call().request_id().value();
            response.headers_mut().insert(REQUEST_ID, id);
            if response.body().is_end_stream() {
                run.finish(call::code(response.headers()));
            }
        }
        Poll::Ready(Ok(response.map(|body| CallBody {
            body: Some(body),
            run: run.filter(|run| run.open.is_some()),
            pieces: 0,
        })))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.work.is_some() {
            let _entered = self.run.as_ref().map(Run::enter);
            discard(self.work.take());
        }
    }
}

/// The response of a call.
pub(crate) struct CallBody {
    /// Until it has ended.
    body: Option<Body>,
    run: Option<Run>,
    pieces: usize,
}

impl CallBody {
    fn end(&mut self, code: Code) {
        if let Some(mut run) = self.run.take() {
            run.finish(code);
        }
        discard(self.body.take());
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The handler goes before the end of the call is reported.
        discard(self.body.take());
        self.end(status.code());
        Poll::Ready(Some(call::trailers(status).map(Frame::trailers)))
    }
}

impl http_body::Body for CallBody {
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
        let Some(run) = this.run.as_mut() else {
            return Pin::new(body).poll_frame(cx);
        };
        let _entered = run.enter();
        if this.pieces > UNWATCHED || run.may_be_over() {
            run.arm();
        }
        if let Poll::Ready(status) = run.poll_end(cx) {
            return this.end_with(&status);
        }
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            Ok(Poll::Ready(frame)) => {
                match &frame {
                    Some(Ok(frame)) => match frame.trailers_ref() {
                        Some(trailers) => this.end(call::code(trailers)),
                        None => this.pieces += 1,
                    },
                    Some(Err(status)) => this.end(status.code()),
                    None => this.end(Code::Unknown),
                }
                Poll::Ready(frame)
            }
            Ok(Poll::Pending) => {
                if !run.is_unwatched() {
                    return Poll::Pending;
                }
                run.arm();
                let status = ready!(run.poll_end(cx));
                this.end_with(&status)
            }
            Err(_panic) => this.end_with(&panicked()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // The end may come at any byte, so no size is promised.
        SizeHint::default()
    }
}

impl mtls::ResponseBody for CallBody {
    fn call(&self) -> Option<Arc<dyn mtls::OpenCall>> {
        let call = |run: &Run| run.shared.clone() as Arc<dyn mtls::OpenCall>;
        self.run.as_ref().map(call)
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        if self.body.is_some() {
            let _entered = self.run.as_ref().map(Run::enter);
            discard(self.body.take());
        }
    }
}

/// Drops a handler's value. That may panic too, and must not end the connection.
fn discard<T>(made: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(made))).is_err() {
        error!("{}", events::HANDLER_PANICKED_LATE);
    }
}

/// The status of a call whose handler panicked. It is also logged.
pub(crate) fn panicked() -> Status {
    error!("{}", events::HANDLER_PANICKED);
    Status::internal("the server failed; the operator has the details")
}
