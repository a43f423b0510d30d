//! The layer before a service that is not ours: where the caller comes from, and that the rules are the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use countersign_authz::{
    Authorization, AuthorizationLayer, LivePolicy, NO_PEER, POLICY_CHANGED, POLICY_DENIED, Policy,
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use identity::Peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

const ALLOWS_OP: &str = r#"{"name": "open", "allow_rules": [
    {"name": "op", "source": {"principals": ["spiffe://a.test/op"]}}]}"#;
const ALLOWS_OTHER: &str = r#"{"name": "other", "allow_rules": [
    {"name": "other", "source": {"principals": ["spiffe://a.test/other"]}}]}"#;

fn live(policy: &str) -> LivePolicy {
    LivePolicy::new(Policy::parse(policy.as_bytes()).unwrap())
}

/// A request of somebody, with a body that is not tonic's.
fn request(name: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .uri("/shop.v1.Shop/Get")
        .body(Full::new(Bytes::from_static(b"ask")))
        .unwrap();
    if let Some(name) = name {
        let peer = Peer::unverified_for_tests()
            .uri(format!("spiffe://a.test/{name}"))
            .build()
            .unwrap();
        request.extensions_mut().insert(Arc::new(peer));
    }
    request
}

#[tokio::test]
async fn a_call_is_allowed_denied_or_of_nobody_by_the_peer_in_its_extensions() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = reached.clone();
    let service = service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(Response::new(Full::new(asked)))
        }
    });
    let shadow = live(ALLOWS_OTHER);
    let authorization = Authorization::new(live(ALLOWS_OP)).with_shadow(shadow);
    let service = AuthorizationLayer::new(authorization.clone()).layer(service);

    let answer = service.clone().oneshot(request(Some("op"))).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "ask");
    for (name, code, reason) in [
        (Some("other"), Code::PermissionDenied, POLICY_DENIED),
        (None, Code::Unauthenticated, NO_PEER),
    ] {
        let answer = service.clone().oneshot(request(name)).await.unwrap();
        let refusal = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(refusal.code(), code, "{name:?}");
        let details = refusal.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, reason, "{name:?}");
    }
    assert_eq!(reached.load(Ordering::Relaxed), 1);
    let counts = authorization.counts();
    assert_eq!((counts.allowed.get(), counts.denied.get()), (1, 1));
    assert_eq!(
        (
            counts.shadow_would_allow.get(),
            counts.shadow_would_deny.get()
        ),
        (1, 1)
    );
    assert_eq!((counts.malformed.get(), counts.ended.get()), (0, 0));
}

#[tokio::test]
async fn a_new_policy_ends_a_call_that_runs_behind_the_layer() {
    let policy = live(ALLOWS_OP);
    let authorization = Authorization::new(policy.clone());
    let (frames, stream) = mpsc::unbounded_channel::<Result<_, Status>>();
    let mut body = Some(StreamBody::new(UnboundedReceiverStream::new(stream)));
    let service = service_fn(move |_: Request<Body>| {
        let body = body.take().unwrap();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let service = AuthorizationLayer::new(authorization.clone()).layer(service);
    let answer = service.oneshot(request(Some("op"))).await.unwrap();
    let mut body = answer.into_body();
    frames
        .send(Ok(http_body::Frame::data(Bytes::from_static(b"first"))))
        .unwrap();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");

    policy.replace(Policy::parse(ALLOWS_OTHER.as_bytes()).unwrap());
    let last = body.frame().await.unwrap().unwrap();
    let end = Status::from_header_map(&last.into_trailers().unwrap()).unwrap();
    assert_eq!(end.code(), Code::PermissionDenied);
    let reason = end.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!(reason, POLICY_CHANGED);
    assert!(frames.is_closed(), "what the service did is dropped");
    assert_eq!(authorization.counts().ended.get(), 1);
}
