//! The layer around every call on the port: it refuses requests that are not gRPC calls, and adds request id, trace,
//! metrics, deadline, lease and panic handling. The policy is inside it.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use authz::{Gate, Head};
use base::api::{Api, MethodKind};
use base::call::{self, Deadline, MessageCount, NotACall};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use identity::Peer;
use mtls::Lease;
use telemetry::{REQUEST_ID, RequestId, TraceContext};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tracing::warn;

use crate::events;
use crate::server::call::{Call, CallBody, CallWork, Run, panicked};
use crate::server::call_state::CallState;
use crate::server::ends::Ends;
use crate::server::exceeded::Exceeded;
use crate::server::limits::LimitSettings;
use crate::server::load::{CallSlot, CallSlots};
use crate::server::metrics::Metrics;
use crate::server::page::{self, Page};
use crate::server::request_body::RequestBody;
use crate::server::service::BoxError;
use crate::server::table::{self, ServiceTable};

/// What a header counts beside its name and its value (RFC 9113 §6.5.2).
const HEADER_OVERHEAD: usize = 32;

/// How much of a caller's value is shown.
const MAX_SHOWN: usize = 128;

/// What all calls of one port have.
#[derive(Debug)]
pub(crate) struct ServicePort {
    pub(crate) services: ServiceTable,
    pub(crate) page: Option<Page>,
    pub(crate) limits: LimitSettings,
    /// The methods that can be called.
    pub(crate) api: Arc<Api>,
    /// The same in the order of their paths, which is also that of their places in the metrics.
    pub(crate) methods: Vec<MethodKind>,
    pub(crate) metrics: Arc<Metrics>,
    /// True once streams that only the server can end are to end.
    pub(crate) draining: watch::Receiver<bool>,
}

/// All calls of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionService {
    port: Arc<ServicePort>,
    peer: Arc<str>,
    gate: Arc<Gate>,
    lease: Lease,
    slots: CallSlots,
}

impl ConnectionService {
    pub(crate) fn new(
        port: Arc<ServicePort>,
        peer: &Peer,
        gate: Gate,
        lease: Lease,
        slots: CallSlots,
    ) -> Self {
        Self {
            port,
            peer: peer.to_string().into(),
            gate: Arc::new(gate),
            lease,
            slots,
        }
    }

    /// A slot for a call, and how long it may take; or the status that refuses it.
    fn admit(&self, headers: &HeaderMap) -> Result<(CallSlot, Duration), Status> {
        let shed = |exceeded: &Exceeded| self.port.metrics.shed.add(exceeded.reason());
        let limits = &self.port.limits;
        let max_bytes = usize::try_from(limits.max_header_list_size).unwrap_or(usize::MAX);
        if metadata_bytes(headers) > max_bytes {
            let exceeded = Exceeded::MetadataTooLarge { max_bytes };
            shed(&exceeded);
            return Err(exceeded.into());
        }
        let timeout = call::timeout(headers)?.unwrap_or(limits.default_deadline.0);
        let slot = self.slots.take().inspect_err(shed)?;
        Ok((slot, timeout.min(limits.max_deadline.0)))
    }

    /// The response to a request that is not a gRPC call. Neither the policy nor a handler sees it.
    fn refuse<B>(&self, request: &Request<B>, no_call: NotACall) -> Response<Body> {
        self.port.metrics.not_calls.add(no_call.code());
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()));
        warn!(
            peer.identity = &*self.peer,
            code = no_call.code(),
            reason = %no_call,
            http.request.method = shown(request.method().as_str()),
            http.request.header.content_type = content_type.as_deref().map(shown),
            "{}", events::NOT_A_CALL
        );
        no_call.response()
    }
}

impl ConnectionService {
    /// Begins a call, or refuses it.
    pub(crate) fn begin<B>(&self, mut request: Request<B>) -> Call
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let page = self.port.page.as_ref();
        let view = page.and_then(|page| page.asked_for(&request));
        if view.is_none()
            && let Err(no_call) = call::is_call(&request)
        {
            return Call::none(self.refuse(&request, no_call));
        }
        let id = RequestId::from_headers(request.headers());
        request.headers_mut().insert(REQUEST_ID, id.value());
        // With a malformed context the call begins a new trace.
        let caller = TraceContext::from_headers(request.headers()).unwrap_or_default();
        let metrics = &self.port.metrics;
        let path = request.uri().path();
        let place = metrics.calls.place(path);
        let (facts, recorded) = metrics
            .calls
            .answer(place, path, &self.peer, id, caller.as_ref());
        // For the calls that a handler makes in turn.
        request.extensions_mut().insert(facts.context().clone());
        let shared = Arc::new(CallState::new(facts));
        let _entered = telemetry::enter(shared.clone());
        let mut ends = Ends {
            gate: self.gate.clone(),
            allowed: None,
            lease: self.lease.clone(),
            limit: self.port.limits.max_deadline.0,
            first_message: self.port.limits.first_message_timeout.0,
            draining: self
                .method(place)
                .is_some_and(MethodKind::is_feed)
                .then(|| self.port.draining.clone()),
        };
        let (held, work) = match self.admit(request.headers()) {
            Err(status) => (None, refused(view.is_some(), &status, request)),
            Ok((held, limit)) => {
                ends.limit = limit;
                if let Some(deadline) = shared.began().checked_add(limit) {
                    request.extensions_mut().insert(Deadline(deadline));
                }
                match self.gate.admit(place, &request) {
                    Err(refusal) => (None, refused(view.is_some(), &refusal, request)),
                    Ok(allowed) => {
                        ends.allowed = Some((allowed, Head::of(&request)));
                        let work = match view {
                            Some(view) => CallWork::Answered(view.show(&self.gate, &self.port.api)),
                            None => self.run(place, request, &shared),
                        };
                        (Some(held), work)
                    }
                }
            }
        };
        shared.may_end_by(ends);
        let run = Run::new(shared, metrics.clone(), recorded, held);
        Call::new(work, run)
    }

    fn method(&self, place: Option<usize>) -> Option<MethodKind> {
        self.port.methods.get(place?).copied()
    }

    /// Passes the call to its service.
    fn run<B>(&self, place: Option<usize>, request: Request<B>, shared: &Arc<CallState>) -> CallWork
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let method = self.method(place);
        let one = method.is_some_and(|method| !method.streams_request);
        let max_bytes = self.port.limits.max_message_size;
        let count = MessageCount::new(max_bytes, one);
        let request = request.map(|body| Body::new(RequestBody::new(body, count, shared.clone())));
        match catch_unwind(AssertUnwindSafe(|| self.port.services.call(request))) {
            Ok(Some(answer)) => CallWork::Running(answer),
            Ok(None) => CallWork::Answered(table::unserved()),
            Err(_panic) => CallWork::Answered(panicked().into_http()),
        }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        self.begin(request)
    }
}

/// The response to a call that was refused before it began, in the form that its caller can read.
fn refused<B>(is_view: bool, status: &Status, request: Request<B>) -> CallWork
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    match is_view {
        true => CallWork::Answered(page::refused(status)),
        false => CallWork::refused(status, request),
    }
}

fn metadata_bytes(headers: &HeaderMap) -> usize {
    let each = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD);
    each.sum()
}

/// The beginning of a value that the caller chose.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_SHOWN))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use authz::{Authorization, LivePolicy, Policy};
    use bytes::Bytes;
    use http_body::{Body as _, Frame};
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use telemetry::{CallLines, Traces};
    use tower::service_fn;

    use tokio::time::Instant;

    use super::*;
    use crate::server;
    use crate::server::load::Load;

    const CHECK: &str = "/grpc.health.v1.Health/Check";

    fn peer() -> Peer {
        let orders = Peer::unverified_for_tests().uri("spiffe://acme.test/orders");
        orders.build().unwrap()
    }

    /// The calls of a connection that may call [`CHECK`], which answers at once with one message.
    fn calls(limits: LimitSettings) -> ConnectionService {
        calls_by(limits, &policy("spiffe://acme.test/orders"))
    }

    /// That `principal` may call [`CHECK`], and nobody else.
    fn policy(principal: &str) -> LivePolicy {
        LivePolicy::new(parsed(principal))
    }

    fn parsed(principal: &str) -> Policy {
        let policy = format!(
            r#"{{"name": "p", "allow_rules": [{{"name": "orders",
                "source": {{"principals": ["{principal}"]}},
                "request": {{"paths": ["{CHECK}"]}}}}]}}"#
        );
        Policy::parse(policy.as_bytes()).unwrap()
    }

    fn calls_by(limits: LimitSettings, policy: &LivePolicy) -> ConnectionService {
        let api = server::api(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        let metrics = Metrics::new(&api, Traces::default(), CallLines::Failed);
        let mut services = ServiceTable::default();
        let answer = service_fn(|request: Request<Body>| async move {
            let known = request.extensions();
            assert!(known.get::<TraceContext>().is_some());
            let deadline = known.get::<Deadline>();
            assert!(deadline.is_some_and(|Deadline(at)| *at > Instant::now()));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames = [
                Frame::data(Bytes::from_static(&[0; 5])),
                Frame::trailers(trailers),
            ];
            let frames = frames.map(Ok::<_, Status>);
            let body = StreamBody::new(tokio_stream::iter(frames));
            Ok::<_, Infallible>(Response::new(Body::new(body)))
        });
        services.add("grpc.health.v1.Health", answer);
        let port = ServicePort {
            services,
            page: None,
            limits,
            methods: api.methods().collect(),
            api: Arc::new(api),
            metrics: Arc::new(metrics),
            draining: watch::channel(false).1,
        };
        let peer = peer();
        ConnectionService::new(
            Arc::new(port),
            &peer,
            Authorization::new(policy.clone()).gate(&peer),
            Lease::never_lost_for_tests(),
            Load::new(10, 10).caller(&peer),
        )
    }

    /// The default limits, with this time for every part of a call.
    fn within(time: Duration) -> LimitSettings {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            limits: LimitSettings,
        }
        let Defaults { limits } = clap::Parser::parse_from(["server"]);
        let time = crate::program::Duration(time);
        LimitSettings {
            default_deadline: time,
            max_deadline: time,
            first_message_timeout: time,
            ..limits
        }
    }

    fn request() -> Request<Full<Bytes>> {
        Request::post(CHECK)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap()
    }

    /// Runs a call that never waits, to its end, and gives the code of its trailers.
    fn run(calls: &ConnectionService, request: Request<Full<Bytes>>) -> tonic::Code {
        let mut cx = Context::from_waker(Waker::noop());
        let mut call = pin!(calls.begin(request));
        let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
            panic!("the call waits");
        };
        let head = response.headers().clone();
        let mut body = pin!(response.into_body());
        let mut code = call::code(&head);
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            if let Some(trailers) = frame.unwrap().trailers_ref() {
                code = call::code(trailers);
            }
        }
        code
    }

    /// The code of a response that its caller has left unread so far, and how many of its messages come before that.
    fn read(body: CallBody) -> (tonic::Code, usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut body, mut messages) = (pin!(body), 0);
        loop {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref() {
                    Some(trailers) => return (call::code(trailers), messages),
                    None => messages += 1,
                },
                other @ (Poll::Ready(None | Some(Err(_))) | Poll::Pending) => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_waits_for_its_reader_is_held_back_when_its_caller_lost_the_right() {
        let policy = policy("spiffe://acme.test/orders");
        let calls = calls_by(within(Duration::from_secs(60)), &policy);
        let mut cx = Context::from_waker(Waker::noop());
        let mut answered = || {
            let mut call = pin!(calls.begin(request()));
            match call.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(response)) => response.into_body(),
                Poll::Pending => panic!("the call waits"),
            }
        };
        let (kept, withdrawn) = (answered(), answered());
        assert_eq!(read(kept), (tonic::Code::Ok, 1));
        policy.replace(parsed("spiffe://acme.test/another"));
        assert_eq!(read(withdrawn), (tonic::Code::PermissionDenied, 0));
    }

    #[tokio::test]
    async fn an_answer_that_waits_for_its_reader_is_held_back_when_its_deadline_is_over() {
        let calls = calls(within(Duration::from_millis(20)));
        let mut cx = Context::from_waker(Waker::noop());
        let body = {
            let mut call = pin!(calls.begin(request()));
            match call.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(response)) => response.into_body(),
                Poll::Pending => panic!("the call waits"),
            }
        };
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert_eq!(read(body), (tonic::Code::DeadlineExceeded, 0));
    }

    #[test]
    fn an_allowed_call_allocates_no_more_than_is_known() {
        let calls = calls(within(Duration::from_secs(60)));
        // The first one fills what is kept.
        assert_eq!(run(&calls, request()), tonic::Code::Ok);
        let counted = allocation_counter::measure(|| {
            assert_eq!(run(&calls, request()), tonic::Code::Ok);
        });
        assert!(counted.count_total <= ALLOCATIONS, "{counted:?}");
        assert_eq!(counted.count_current, 0, "{counted:?}");
    }

    #[tokio::test]
    async fn a_call_without_any_time_never_runs() {
        let calls = calls(LimitSettings {
            first_message_timeout: crate::program::Duration(Duration::from_secs(60)),
            ..within(Duration::ZERO)
        });
        for _ in 0..100 {
            assert_eq!(run(&calls, request()), tonic::Code::DeadlineExceeded);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_not_late_while_the_handler_does_not_read() {
        let day = Duration::from_secs(86_400);
        let mut calls = calls(LimitSettings {
            first_message_timeout: crate::program::Duration(Duration::from_secs(10)),
            ..within(day)
        });
        let mut services = ServiceTable::default();
        let reads_late = |request: Request<Body>| async move {
            // As for a lock or a connection.
            tokio::time::sleep(Duration::from_secs(60)).await;
            let first = pin!(request.into_body()).frame().await;
            let code = match first {
                Some(Ok(_)) => tonic::Code::Ok,
                Some(Err(_)) | None => tonic::Code::Internal,
            };
            Ok::<_, Infallible>(Status::new(code, "").into_http())
        };
        services.add("grpc.health.v1.Health", service_fn(reads_late));
        Arc::get_mut(&mut calls.port).unwrap().services = services;
        let code = |response: Response<CallBody>| call::code(response.headers());
        // The whole message is here already.
        let response = calls.begin(request()).await.unwrap();
        assert_eq!(code(response), tonic::Code::Ok);
        // Nothing ever comes: ten seconds after the handler begins to wait, the call ends.
        let silent = request().map(|_| {
            Body::new(StreamBody::new(tokio_stream::pending::<
                Result<Frame<Bytes>, Status>,
            >()))
        });
        let began = Instant::now();
        let response = calls.begin(silent).await.unwrap();
        assert_eq!(code(response), tonic::Code::DeadlineExceeded);
        assert_eq!(began.elapsed().as_secs(), 70);
    }

    /// Of the layer, and of the request and the handler of this test.
    const ALLOCATIONS: u64 = 29;
}
