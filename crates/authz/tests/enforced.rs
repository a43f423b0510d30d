//! The layer: what reaches a handler, what a refused caller is told, and what a new policy does to calls that run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign_authz::{
    Authorization, AuthorizationLayer, Authorized, Caller, LivePolicy, Policy,
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use identity::Peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::util::MapRequest;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use uuid::Uuid;

const GET: &str = "/shop.v1.Shop/Get";
const DENIES: &str = r#"{"name": "closed", "allow_rules": [
    {"name": "nobody", "source": {"principals": ["spiffe://a.test/nobody"]}}]}"#;
const ALLOWS: &str = r#"{"name": "open", "deny_rules": [
        {"name": "no_put", "request": {"paths": ["/shop.v1.Shop/Put"]}}],
    "allow_rules": [{"name": "secret_rule", "source": {"principals": ["spiffe://a.test/op"]}},
        {"name": "second", "source": {"principals": ["spiffe://a.test/other"]}}]}"#;
const ONLY_OTHER: &str = r#"{"name": "other", "allow_rules": [
    {"name": "second", "source": {"principals": ["spiffe://a.test/other"]}}]}"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes()).unwrap()
}

/// `service` behind the layer, for the calls of one peer.
fn behind<S>(
    authorization: &Authorization,
    name: &str,
    service: S,
) -> MapRequest<Authorized<S>, impl Fn(Request<Body>) -> Request<Body> + Clone + use<S>> {
    let peer = Peer::unverified_for_tests().uri(format!("spiffe://a.test/{name}"));
    let peer = Arc::new(peer.build().unwrap());
    let service = AuthorizationLayer::new(authorization.clone()).layer(service);
    MapRequest::new(service, move |mut request: Request<Body>| {
        request.extensions_mut().insert(Arc::clone(&peer));
        request
    })
}

fn request(uri: &str) -> Request<Body> {
    Request::builder().uri(uri).body(Body::empty()).unwrap()
}

/// Answers at once, and keeps the paths that reached it.
#[derive(Clone, Default)]
struct Handler {
    reached: Arc<Mutex<Vec<String>>>,
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.reached
            .lock()
            .unwrap()
            .push(request.uri().path().to_owned());
        ready(Ok(Response::new(Body::new(Full::new(Bytes::from_static(
            b"done",
        ))))))
    }
}

async fn status<S>(service: S, request: Request<Body>) -> Option<Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    Status::from_header_map(service.oneshot(request).await.unwrap().headers())
}

#[tokio::test]
async fn an_allowed_call_passes_and_a_denied_one_never_reaches_the_handler() {
    let authorization = Authorization::new(LivePolicy::new(policy(ALLOWS)));
    let handler = Handler::default();
    let answer = behind(&authorization, "op", handler.clone())
        .oneshot(request(GET))
        .await
        .unwrap();
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "done"
    );
    for (name, path) in [("op", "/shop.v1.Shop/Put"), ("stranger", GET)] {
        let refusal = status(behind(&authorization, name, handler.clone()), request(path)).await;
        assert_eq!(
            refusal.unwrap().code(),
            Code::PermissionDenied,
            "{name} {path}"
        );
    }
    for caller in [Caller::Plaintext, Caller::Anonymous] {
        let refusal = authorization.gate(caller).admit(None, &request(GET));
        assert_eq!(refusal.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(*handler.reached.lock().unwrap(), [GET]);
    let counts = authorization.counts();
    assert_eq!(
        (
            counts.allowed.get(),
            counts.denied.get(),
            counts.malformed.get()
        ),
        (1, 4, 0)
    );
}

#[tokio::test]
async fn a_path_that_is_no_method_is_unimplemented_before_any_rule() {
    let open = r#"{"name": "p", "allow_rules": [{"name": "all"}]}"#;
    let authorization = Authorization::new(LivePolicy::new(policy(open)));
    let handler = Handler::default();
    for uri in [
        "/",
        "//",
        "/shop.v1.Shop",
        "/shop.v1.Shop/",
        "//shop.v1.Shop/Get",
        "/shop.v1.Shop//Get",
        "/shop.v1.Shop/Get/",
        "/shop.v1.Shop/Get/x",
        "/shop.v1.Shop/Get?x=1",
        "/shop.v1.Shop/Get?",
        "*",
        "http://host",
        "http://host/shop.v1.Shop/Get?x",
    ] {
        let service = behind(&authorization, "op", handler.clone());
        assert_eq!(
            status(service, request(uri)).await.unwrap().code(),
            Code::Unimplemented,
            "{uri}"
        );
    }
    assert!(handler.reached.lock().unwrap().is_empty());
    assert_eq!(authorization.counts().malformed.get(), 13);
}

#[tokio::test]
async fn a_denial_tells_an_id_and_no_rule() {
    let authorization = Authorization::new(LivePolicy::new(policy(ALLOWS)));
    let service = behind(&authorization, "op", Handler::default());
    let answer = service.oneshot(request("/shop.v1.Shop/Put")).await.unwrap();
    let refusal = Status::from_header_map(answer.headers()).unwrap();
    let info = refusal.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("POLICY_DENIED", "authz.countersign")
    );
    let id: Uuid = info.metadata["decision_id"].parse().unwrap();
    assert_eq!((info.metadata.len(), id.get_version_num()), (1, 7));
    assert!(!format!("{:?}", answer.headers()).contains("no_put"));
    assert!(
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty(),
        "trailers only"
    );
}

#[tokio::test]
async fn a_new_policy_decides_the_next_call() {
    let live = LivePolicy::new(policy(DENIES));
    let authorization = Authorization::new(live.clone());
    let service = || behind(&authorization, "op", Handler::default());
    let connection = service();
    assert_eq!(
        status(connection.clone(), request(GET))
            .await
            .unwrap()
            .code(),
        Code::PermissionDenied
    );
    assert_eq!((live.replace(policy(ALLOWS)), live.generation()), (2, 2));
    assert!(status(connection, request(GET)).await.is_none());
}

/// A call that echoes: what it gets from the request goes into the response.
fn echo() -> impl Service<
    Request<Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Clone {
    service_fn(|request: Request<Body>| async { Ok(Response::new(Body::new(request.into_body()))) })
}

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>;

fn streaming() -> (Frames, Request<Body>) {
    let (frames, stream) = mpsc::unbounded_channel();
    let body = Body::new(StreamBody::new(UnboundedReceiverStream::new(stream)));
    (frames, Request::builder().uri(GET).body(body).unwrap())
}

fn data(text: &'static str) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn next_data(body: &mut Body) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

async fn trailers(body: &mut Body) -> Status {
    let trailers = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    Status::from_header_map(&trailers).unwrap()
}

#[tokio::test]
async fn a_stream_that_loses_its_right_ends_and_its_siblings_go_on() {
    let live = LivePolicy::new(policy(ALLOWS));
    let authorization = Authorization::new(live.clone());
    let (losing, losing_request) = streaming();
    let (keeping, keeping_request) = streaming();
    let mut lost = behind(&authorization, "op", echo())
        .oneshot(losing_request)
        .await
        .unwrap()
        .into_body();
    let mut kept = behind(&authorization, "other", echo())
        .oneshot(keeping_request)
        .await
        .unwrap()
        .into_body();
    losing.send(data("1")).unwrap();
    keeping.send(data("1")).unwrap();
    assert_eq!(
        (next_data(&mut lost).await, next_data(&mut kept).await),
        ("1".into(), "1".into())
    );

    live.replace(policy(ONLY_OTHER));
    losing.send(data("2")).unwrap();
    keeping.send(data("2")).unwrap();
    let end = trailers(&mut lost).await;
    assert_eq!(end.code(), Code::PermissionDenied);
    assert_eq!(
        end.get_details_error_info().unwrap().reason,
        "POLICY_CHANGED"
    );
    assert!(lost.frame().await.is_none());
    losing.closed().await;

    assert_eq!(next_data(&mut kept).await, "2");
    live.replace(policy(ALLOWS));
    keeping.send(data("3")).unwrap();
    assert_eq!(next_data(&mut kept).await, "3");
    drop(keeping);
    assert!(kept.frame().await.is_none());
    assert_eq!(authorization.counts().ended.get(), 1);
}

#[tokio::test]
async fn a_call_without_an_answer_yet_ends_too() {
    let live = LivePolicy::new(policy(ALLOWS));
    let authorization = Authorization::new(live.clone());
    let handler = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let mut call = behind(&authorization, "op", handler).oneshot(request(GET));
    tokio::select! {
        biased;
        _ = &mut call => panic!("the handler never answers"),
        () = ready(()) => {}
    }
    live.replace(policy(ONLY_OTHER));
    let refusal = Status::from_header_map(call.await.unwrap().headers()).unwrap();
    assert_eq!(refusal.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_task_of_the_handler_reads_nothing_more_once_the_right_is_lost() {
    let live = LivePolicy::new(policy(ALLOWS));
    let authorization = Authorization::new(live.clone());
    let (give, mut taken) = mpsc::unbounded_channel();
    let handler = service_fn(move |request: Request<Body>| {
        give.send(request.into_body()).unwrap();
        pending::<Result<Response<Body>, Infallible>>()
    });
    let (frames, request) = streaming();
    let call = tokio::spawn(behind(&authorization, "op", handler).oneshot(request));
    let mut kept_by_task = taken.recv().await.unwrap();
    frames.send(data("before")).unwrap();
    assert_eq!(next_data(&mut kept_by_task).await, "before");
    live.replace(policy(ONLY_OTHER));
    call.await.unwrap().unwrap();
    frames.send(data("after")).ok();
    let end = kept_by_task.frame().await.unwrap().unwrap_err();
    assert_eq!(
        Status::from_error(end.into()).code(),
        Code::PermissionDenied
    );
    assert!(kept_by_task.frame().await.is_none());
}

#[tokio::test]
async fn a_shadow_policy_changes_nothing_and_its_differences_are_counted() {
    let authorization = Authorization::new(LivePolicy::new(policy(ALLOWS)))
        .with_shadow(LivePolicy::new(policy(ONLY_OTHER)));
    for (name, path, refused) in [
        ("op", GET, false),
        ("other", GET, false),
        ("other", "/shop.v1.Shop/Put", true),
        ("x", GET, true),
    ] {
        let service = behind(&authorization, name, Handler::default());
        assert_eq!(
            status(service, request(path)).await.is_some(),
            refused,
            "{name} {path}"
        );
    }
    let counts = authorization.counts();
    assert_eq!(
        (
            counts.shadow_would_deny.get(),
            counts.shadow_would_allow.get()
        ),
        (1, 1)
    );
}
