//! Runs the examples with callers that are allowed, denied and revoked.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::duplicate_mod,
    reason = "each example is a program with the same service"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cli::pki::{LeafSpec, Purpose, Validity};
use countersign::authz::{LivePolicy, Policy};
use countersign::client::Connection;
use countersign::identity::Role;
use countersign::mtls::rustls::HandshakeKind;
use countersign::mtls::rustls::client::Resumption;
use countersign::mtls::{self, Incoming, Limits, Present, Source, Target};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use test_contract::v1::{ChatRequest, CollectRequest, EchoRequest, RecordRequest, WatchRequest};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::Code;

mod example_process;
mod support;

use example_process::ExampleProcess;
use support::{POLICY, Pki, localhost, target};

#[path = "../examples/axum.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod axum_example;
#[path = "../examples/connect.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod connect;
#[path = "../examples/existing_tonic_service.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod existing_tonic_service;
#[path = "../examples/handler_test.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod handler_test;
#[path = "../examples/verifier.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod verifier;

const PATIENCE: Duration = Duration::from_secs(30);
const NOBODY: &str = r#"{"name": "closed", "allow_rules": [
    {"name": "nobody", "source": {"principals": ["spiffe://acme.test/nobody"]}}]}"#;

fn live(policy: &str) -> LivePolicy {
    LivePolicy::new(Policy::parse(policy.as_bytes()).unwrap())
}

fn hello() -> EchoRequest {
    EchoRequest {
        text: "hello".to_owned(),
    }
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// A server in the background, which ends with the test.
struct Background(JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn existing(pki: &Pki, policy: LivePolicy) -> (SocketAddr, Background) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trust = pki.trust("echo", Role::Server);
    let served = existing_tonic_service::serve(listener, trust, policy);
    let task = tokio::spawn(async move { served.await.unwrap() });
    (address, Background(task))
}

#[tokio::test]
async fn an_existing_tonic_service_knows_its_peers_and_obeys_the_policy() {
    let pki = Pki::new();
    let policy = live(POLICY);
    let (address, _server) = existing(&pki, policy.clone()).await;

    let mut orders = pki.client("orders", address);
    let answer = orders.echo(hello()).await.unwrap().into_inner();
    assert_eq!(answer.text, "spiffe://acme.test/orders says hello");
    let recorded = orders.record(RecordRequest::default()).await.unwrap();
    assert_eq!(recorded.into_inner().count, 1);
    let two = tokio_stream::iter([CollectRequest::default(), CollectRequest::default()]);
    assert_eq!(orders.collect(two).await.unwrap().into_inner().count, 2);
    let text = "again".to_owned();
    let said = tokio_stream::iter([ChatRequest { text }]);
    let mut chat = orders.chat(said).await.unwrap().into_inner();
    assert_eq!(chat.message().await.unwrap().unwrap().text, "again");
    assert_eq!(chat.message().await.unwrap(), None);

    let refused = pki.client("marketing", address).echo(hello()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "the policy does not allow this call");

    let mut watch = orders.watch(WatchRequest::default()).await.unwrap();
    let watch = watch.get_mut();
    assert!(watch.message().await.unwrap().is_some());
    policy.replace(Policy::parse(NOBODY.as_bytes()).unwrap());
    let ended = soon("the policy ends the call", watch.message()).await;
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_existing_tonic_service_loses_the_connections_of_a_revoked_peer() {
    let pki = Pki::new();
    let (address, _server) = existing(&pki, live(POLICY)).await;
    let mut orders = pki.client("orders", address);
    let mut watch = orders.watch(WatchRequest::default()).await.unwrap();
    let watch = watch.get_mut();
    assert!(watch.message().await.unwrap().is_some());

    pki.revoke_orders();
    let ended = soon("the connection is cut", watch.message()).await;
    let code = ended.unwrap_err().code();
    assert!(
        matches!(code, Code::Unavailable | Code::Unknown | Code::Internal),
        "a reset and not a status of ours: {code:?}"
    );
    let again = soon("the next handshake", orders.echo(hello())).await;
    let again = again.unwrap_err();
    assert!(again.message().contains("revoked"), "{again}");
}

#[tokio::test]
async fn a_peer_without_a_certificate_cannot_reach_an_existing_tonic_service() {
    let pki = Pki::new();
    let (address, _server) = existing(&pki, live(POLICY)).await;
    let expected = Target::parse(&target(address)).unwrap();
    let trust = pki.trust("orders", Role::Client);
    let snapshot = trust.current();
    let shown = Present::Nothing;
    let probed = mtls::probe(address, &expected, localhost(), &snapshot, shown, PATIENCE).await;
    let refused = probed.unwrap_err();
    assert_eq!(refused.code(), "REFUSED_BY_PEER");
    assert!(
        refused.to_string().contains("CertificateRequired"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_transport_keeps_its_caps_and_deadlines_for_a_server_that_is_not_ours() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        max_connections_per_peer: 1,
        handshake_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let trust = pki.trust("echo", Role::Server);
    let mut incoming = Incoming::new(listener, trust, limits).unwrap();

    let mut silent = TcpStream::connect(address).await.unwrap();
    let closed = soon("a silent socket is closed", silent.read(&mut [0; 1])).await;
    assert_eq!(closed.unwrap(), 0);

    let mut config = mtls::client_config(&pki.trust("orders", Role::Client), localhost()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async || {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        connector.connect(name, tcp).await.unwrap()
    };
    let _first = connect().await;
    let held = soon("the first is accepted", incoming.accept()).await;
    assert_eq!(held.peer().to_string(), "spiffe://acme.test/orders");
    let mut second = connect().await;
    // It is closed, with or without a farewell.
    let closed = soon("the second is closed", second.read(&mut [0; 1])).await;
    assert_eq!(closed.unwrap_or(0), 0);
    drop(held);
    let mut third = connect().await;
    let mut held = soon("a place is free again", incoming.accept()).await;
    held.write_all(b"hello").await.unwrap();
    held.flush().await.unwrap();
    third.read_exact(&mut [0; 5]).await.unwrap();
}

async fn tls(pki: &Pki, name: &str, server: SocketAddr) -> TlsStream<TcpStream> {
    let trust = pki.trust(name, Role::Client);
    let mut config = mtls::client_config(&trust, localhost()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(server).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = "localhost".try_into().unwrap();
    connector.connect(name, tcp).await.unwrap()
}

/// What a page says, with its gRPC status if it has one; and the connection, which goes on.
async fn page(pki: &Pki, name: &str, server: SocketAddr) -> (String, String, Open) {
    let io = TokioIo::new(tls(pki, name, server).await);
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    // How it ends does not matter, but that it does.
    let ended = tokio::spawn(async { drop(connection.await) });
    let request = http::Request::get("https://localhost/pages/who");
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = send.send_request(request).await.unwrap();
    let code = answer.headers().get("grpc-status");
    let code = code
        .map_or("none", |code| code.to_str().unwrap())
        .to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (code, body, Open { _send: send, ended })
}

/// A connection that its client does not end.
struct Open {
    _send: SendRequest<Empty<bytes::Bytes>>,
    ended: JoinHandle<()>,
}

#[tokio::test]
async fn an_axum_router_knows_its_peers_and_obeys_the_policy() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trust = pki.trust("echo", Role::Server);
    let served = axum_example::serve(listener, trust, live(POLICY));
    let _server = Background(tokio::spawn(async move { served.await.unwrap() }));

    let (code, body, open) = page(&pki, "orders", address).await;
    assert_eq!(body, "you are spiffe://acme.test/orders");
    assert_eq!(code, "none");
    let (code, body, other) = page(&pki, "marketing", address).await;
    assert_eq!((&*code, &*body), ("7", ""));

    pki.revoke_orders();
    soon("the connection is cut", open.ended).await.unwrap();
    assert!(!other.ended.is_finished());
    let mut again = tls(&pki, "orders", address).await;
    let refused = soon("the verdict", again.read(&mut [0; 1])).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
}

#[tokio::test]
async fn the_verifier_alone_greets_its_peer_until_it_is_revoked() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trust = pki.trust("echo", Role::Server);
    let _server = Background(tokio::spawn(async move {
        loop {
            let (tcp, _address) = listener.accept().await.unwrap();
            // What became of it is seen by the client below.
            verifier::greet(tcp, &trust).await.ok();
        }
    }));

    let ours = pki.trust("orders", Role::Client);
    let config = Arc::new(mtls::client_config(&ours, localhost()).unwrap());
    let connect = async || {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(config.clone()).connect(name, tcp).await
    };
    let mut stream = connect().await.unwrap();
    let server = mtls::peer(&ours, stream.get_ref().1).unwrap();
    assert_eq!(server.to_string(), "spiffe://acme.test/echo");
    let mut greeting = [0; 32];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello spiffe://acme.test/orders\n");

    pki.revoke_orders();
    let mut rest = String::new();
    soon("the server says goodbye", stream.read_to_string(&mut rest))
        .await
        .unwrap();
    assert!(
        rest.starts_with("goodbye: ") && rest.contains("revoked"),
        "{rest}"
    );
    stream.shutdown().await.ok();

    let mut again = connect().await.unwrap();
    let mut nothing = String::new();
    let refused = soon("the verdict", again.read_to_string(&mut nothing)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
}

#[tokio::test]
async fn a_client_that_would_resume_its_session_must_prove_itself_again() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = mtls::server_config(&pki.trust("echo", Role::Server)).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let _server = Background(tokio::spawn(async move {
        loop {
            let (tcp, _address) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(tcp).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        }
    }));
    let ours = pki.trust("orders", Role::Client);
    let mut config = mtls::client_config(&ours, localhost()).unwrap();
    config.resumption = Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    for _ in 0..2 {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let connected = TlsConnector::from(config.clone()).connect(name, tcp).await;
        let mut stream = connected.unwrap();
        // A ticket would come before the greeting.
        stream.read_exact(&mut [0; 5]).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_handler_is_tested_without_a_wire() {
    handler_test::a_handler_sees_who_calls().await.unwrap();
}

/// An example with these credentials and this policy, and where it listens.
fn start(
    pki: &Pki,
    example: &str,
    [identity, policy]: [&str; 2],
    backend: Option<SocketAddr>,
) -> (ExampleProcess, SocketAddr) {
    let [identity, policy] = [identity, policy].map(|name| pki.path(name).display().to_string());
    let backend = backend.map(target);
    let mut variables = vec![
        ("APP_TLS_DIR", identity.as_str()),
        ("APP_AUTHZ_POLICY_FILE", &policy),
    ];
    variables.extend(backend.iter().map(|url| ("APP_BACKEND", url.as_str())));
    let process = ExampleProcess::start(example, &variables);
    let address = process.address();
    (process, address)
}

fn serve(pki: &Pki) -> (ExampleProcess, SocketAddr) {
    start(pki, "serve", ["echo", "policy.json"], None)
}

#[tokio::test]
async fn the_serve_and_connect_examples_obey_the_policy() {
    let pki = Pki::new();
    let (_server, address) = serve(&pki);
    let target = target(address);
    let dir = |name: &str| pki.path(name).display().to_string();
    let answer = connect::call(&target, &dir("orders")).await.unwrap();
    assert_eq!(answer, "spiffe://acme.test/orders says hello");
    let refused = connect::call(&target, &dir("marketing")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("the policy does not allow this call"),
        "{refused}"
    );

    pki.revoke_orders();
    let refused = soon("the server reads the list", async {
        loop {
            if let Err(refused) = connect::call(&target, &dir("orders")).await {
                break refused.to_string();
            }
        }
    });
    let refused = refused.await;
    // Of a call that was under way, or of the handshake.
    assert!(refused.to_lowercase().contains("revoked"), "{refused}");
}

#[tokio::test]
async fn a_server_calls_another_by_its_own_identity() {
    let pki = Pki::new();
    let policy = POLICY.replace("/orders", "/front");
    std::fs::write(pki.path("backend.json"), policy).unwrap();
    let (_backend, backend) = start(&pki, "serve", ["echo", "backend.json"], None);
    let front_of = |backend| {
        start(
            &pki,
            "calls_another",
            ["front", "policy.json"],
            Some(backend),
        )
    };
    let (_front, front) = front_of(backend);

    let answer = pki.client("orders", front).echo(hello()).await.unwrap();
    assert_eq!(
        answer.into_inner().text,
        "spiffe://acme.test/front says spiffe://acme.test/orders says hello"
    );
    let refused = pki.client("marketing", front).echo(hello()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = pki.client("orders", backend).echo(hello()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    // Who may call this server is denied by the one behind it.
    let (_closed, closed) = serve(&pki);
    let (_front, front) = front_of(closed);
    let failed = pki.client("orders", front).echo(hello()).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal);
    assert_eq!(
        failed.message(),
        "the server behind this one did not answer"
    );
}

#[tokio::test]
async fn the_check_of_a_connection_refuses_a_certificate_that_is_only_for_servers() {
    let pki = Pki::new();
    let check = |name: &str| {
        let target = Target::parse("https://localhost:1").unwrap();
        Connection::new(target, Source::directory(pki.path(name))).check()
    };
    check("front").unwrap();
    let hour = Duration::from_secs(3600);
    let validity = Validity::starting(OffsetDateTime::now_utc(), hour).unwrap();
    let mut spec = LeafSpec::client(validity);
    spec.purposes = vec![Purpose::Server];
    spec.dns = vec!["localhost".to_owned()];
    let leaf = pki.root.issue(&spec).unwrap();
    std::fs::write(pki.path("front/tls.key"), &leaf.key_pem).unwrap();
    std::fs::write(pki.path("front/tls.crt"), &leaf.chain_pem).unwrap();
    assert_eq!(
        check("front").unwrap_err().to_string(),
        "servers would refuse our certificate: the certificate lacks the extended key usage clientAuth"
    );
}
