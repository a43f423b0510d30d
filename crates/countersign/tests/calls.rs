//! What a channel does for every call: it sets a deadline, and retries methods that the contract declares idempotent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::client::{self, ClientChannel, Connection};
use countersign::identity::Role;
use countersign::mtls::{self, Limits, Source, Target};
use http::{Request, Response};
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::{EchoRequest, RecordRequest, WatchRequest};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::{Code, Status};

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use support::{Pki, target};

/// What a server was asked: how often, and with which deadline the last time.
#[derive(Clone, Default)]
struct Asked {
    times: Arc<AtomicUsize>,
    deadline: Arc<std::sync::Mutex<Option<String>>>,
}

/// Answers each call as `answer` says of how many there were before it.
async fn server(pki: &Pki, answer: fn(usize) -> Status) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let shared = asked.clone();
    let service = move |request: Request<Body>| {
        let asked = shared.clone();
        async move {
            let deadline = request.headers().get("grpc-timeout");
            let deadline = deadline.map(|value| value.to_str().unwrap().to_owned());
            *asked.deadline.lock().unwrap() = deadline;
            let before = asked.times.fetch_add(1, Ordering::Relaxed);
            Ok::<Response<Body>, Infallible>(answer(before).into_http())
        }
    };
    tokio::spawn(mtls::serve(
        listener,
        pki.trust("echo", Role::Server),
        Limits::default(),
        move |_peer, _authority| tower::service_fn(service.clone()),
        std::future::pending(),
    ));
    (address, asked)
}

fn channel(pki: &Pki, server: SocketAddr) -> EchoServiceClient<ClientChannel> {
    let server = Target::parse(&target(server)).unwrap();
    let connection = Connection::new(server, Source::directory(pki.path("orders")));
    let client = client::connect(connection, test_contract::FILE_DESCRIPTOR_SET).unwrap();
    EchoServiceClient::new(client.channel())
}

fn away_twice(before: usize) -> Status {
    match before {
        0 | 1 => Status::unavailable("not now"),
        _ => Status::already_exists("now"),
    }
}

#[tokio::test]
async fn only_a_call_of_an_idempotent_method_is_retried() {
    let pki = Pki::new();
    let (address, asked) = server(&pki, away_twice).await;
    let text = "hello".to_owned();
    let echoed = channel(&pki, address).echo(EchoRequest { text }).await;
    assert_eq!(echoed.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(asked.times.load(Ordering::Relaxed), 3);

    let (address, asked) = server(&pki, away_twice).await;
    let recorded = channel(&pki, address)
        .record(RecordRequest::default())
        .await;
    assert_eq!(recorded.unwrap_err().code(), Code::Unavailable);
    assert_eq!(asked.times.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_one_unless_it_is_a_server_stream() {
    let pki = Pki::new();
    let (address, asked) = server(&pki, |_| Status::already_exists("so")).await;
    let deadline = || asked.deadline.lock().unwrap().clone();
    let mut echo = channel(&pki, address);

    echo.record(RecordRequest::default()).await.unwrap_err();
    assert!(deadline().is_some_and(|deadline| deadline.ends_with('u') || deadline.ends_with('m')));

    let mut request = tonic::Request::new(RecordRequest::default());
    request.set_timeout(Duration::from_secs(3600));
    echo.record(request).await.unwrap_err();
    let micros: u64 = deadline()
        .unwrap()
        .trim_end_matches(char::is_alphabetic)
        .parse()
        .unwrap();
    assert!(micros > 3_000_000, "{micros}");

    echo.watch(WatchRequest::default()).await.unwrap_err();
    assert_eq!(deadline(), None);
}
