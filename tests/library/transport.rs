//! The transport alone, in this process: which peers are accepted, and which are refused with which reason.

mod ends;
mod handshake;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cli::pki::{Authority, LeafSpec, Purpose};
use http::{Request, Response};
use identity::{Peer, Role};
use mtls::{Channel, ChannelOptions, Drained, Limits, ServerIdentity, Target, Trust};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{ServiceExt, service_fn};

use crate::world::{Pki, hour, spec};

/// A port whose every call is answered by the caller's name, except `/t.S/Hang`, which is never answered.
struct Port {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Drained>,
}

async fn serve(trust: Trust, limits: Limits) -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        stopped.await.ok();
    };
    let service_for = |_: &Arc<Peer>, lease: mtls::Lease| {
        service_fn(move |request: Request<Body>| {
            let lost = lease.clone().lost();
            base::call::until(answer(request), async {
                Status::unauthenticated(lost.await.code())
            })
        })
    };
    let served = tokio::spawn(mtls::serve(listener, trust, limits, service_for, shutdown));
    Port {
        address,
        stop,
        served,
    }
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/t.S/Hang" {
        return std::future::pending().await;
    }
    let name = request.extensions().get::<Arc<Peer>>().unwrap().to_string();
    Ok(Status::already_exists(name).into_http())
}

async fn call(channel: &Channel, path: &'static str) -> Status {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    grpc.unary(tonic::Request::new(()), path, codec)
        .await
        .unwrap_err()
}

fn connect(pki: &Pki, name: &str, address: SocketAddr, expected: ServerIdentity) -> Channel {
    let target = Target::parse(&format!("https://localhost:{}", address.port())).unwrap();
    mtls::connect(
        target,
        expected,
        pki.trust(name, Role::Client),
        ChannelOptions::default(),
    )
}

fn localhost() -> ServerIdentity {
    ServerIdentity::Name(ServerName::try_from("localhost").unwrap())
}

fn spiffe(id: &str) -> ServerIdentity {
    ServerIdentity::Spiffe(id.parse().unwrap())
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("none: {status}"), |info| info.reason)
}

#[tokio::test]
async fn every_way_to_name_a_caller_reaches_the_handler() {
    let pki = Pki::new();
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    for (name, expected) in [
        ("orders", "spiffe://acme.test/orders"),
        ("billing", "billing.acme.test"),
        ("mainframe", "CN=mainframe,OU=batch,O=Acme,C=US"),
    ] {
        let status = call(&pki.channel(name, port.address), "/t.S/M").await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::AlreadyExists, expected)
        );
    }
    port.stop.send(()).unwrap();
    assert_eq!(port.served.await.unwrap(), Drained::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_handshakes_at_once_each_gets_its_own_verdict() {
    let pki = Pki::new();
    let stranger = Authority::root("stranger", hour()).unwrap();
    pki.install("stranger", &stranger.issue(&spec("orders")).unwrap());
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        for (name, expected) in [
            ("orders", "spiffe://acme.test/orders"),
            ("stranger", "REFUSED_BY_PEER"),
            ("billing", "billing.acme.test"),
            ("mainframe", "CN=mainframe,OU=batch,O=Acme,C=US"),
        ] {
            let channel = pki.channel(name, port.address);
            calls.spawn(async move {
                let status = call(&channel, "/t.S/M").await;
                let heard = if status.code() == Code::AlreadyExists {
                    status.message().to_owned()
                } else {
                    reason(&status)
                };
                assert_eq!(heard, expected);
            });
        }
    }
    while let Some(called) = calls.join_next().await {
        called.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_the_server_refuses_is_told_so_and_why() {
    let pki = Pki::new();
    let stranger = Authority::root("stranger", hour()).unwrap();
    pki.install("stranger", &stranger.issue(&spec("orders")).unwrap());
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;

    let mut faults: Vec<(&str, LeafSpec, &str)> = Vec::new();
    let mut fault = |name, alert, change: fn(&mut LeafSpec)| {
        let mut spec = spec("orders");
        change(&mut spec);
        faults.push((name, spec, alert));
    };
    fault("a-server-s", "UnsupportedCertificate", |s| {
        s.purposes = vec![Purpose::Server]
    });
    fault("no-purpose", "UnsupportedCertificate", |s| {
        s.purposes.clear()
    });
    fault("two-ids", "AccessDenied", |s| {
        s.uris.push("spiffe://acme.test/catalog".to_owned())
    });
    fault("malformed-id", "AccessDenied", |s| {
        s.uris = vec!["spiffe://acme.test//x".to_owned()]
    });
    fault("nameless", "AccessDenied", |s| s.uris.clear());
    for (name, spec, _) in &faults {
        pki.issue(name, spec);
    }
    faults.push(("stranger", spec("orders"), "UnknownCA"));
    for (name, _, alert) in &faults {
        let status = call(&pki.channel(name, port.address), "/t.S/M").await;
        assert_eq!(status.code(), Code::Unauthenticated, "{name}: {status}");
        assert_eq!(reason(&status), "REFUSED_BY_PEER", "{name}: {status}");
        assert!(
            status.message().contains(alert),
            "{name} wants {alert}: {status}"
        );
    }
    let status = call(&pki.channel("orders", port.address), "/t.S/M").await;
    assert_eq!(
        status.code(),
        Code::AlreadyExists,
        "the others are served on: {status}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_the_expected_one_is_refused_by_the_client() {
    let pki = Pki::new();
    let mut wrong_name = spec("echo");
    wrong_name.dns = vec!["elsewhere.test".to_owned()];
    pki.issue("wrong-name", &wrong_name);
    let mut only_client = spec("echo");
    only_client.purposes = vec![Purpose::Client];
    let stranger = Authority::root("stranger", hour()).unwrap();
    let foreign = pki.dir("foreign");
    std::fs::create_dir_all(&foreign).unwrap();
    pki.put("foreign", "ca.crt", stranger.certificate_pem());
    pki.install("foreign", &stranger.issue(&spec("echo")).unwrap());

    let id = || spiffe("spiffe://acme.test/echo");
    let both = |name: &'static str, id: &str| {
        ServerIdentity::Both(ServerName::try_from(name).unwrap(), id.parse().unwrap())
    };
    for (case, server, expected, code) in [
        ("its name", "echo", localhost(), None),
        ("its SPIFFE ID", "echo", id(), None),
        ("its SPIFFE ID, whatever its name", "wrong-name", id(), None),
        (
            "both",
            "echo",
            both("localhost", "spiffe://acme.test/echo"),
            None,
        ),
        (
            "another name",
            "wrong-name",
            localhost(),
            Some("WRONG_SERVER"),
        ),
        (
            "another SPIFFE ID",
            "echo",
            spiffe("spiffe://acme.test/orders"),
            Some("WRONG_SERVER"),
        ),
        (
            "a longer SPIFFE ID",
            "echo",
            spiffe("spiffe://acme.test/echo/x"),
            Some("WRONG_SERVER"),
        ),
        (
            "right name, wrong ID",
            "echo",
            both("localhost", "spiffe://acme.test/x"),
            Some("WRONG_SERVER"),
        ),
        (
            "right ID, wrong name",
            "wrong-name",
            both("localhost", "spiffe://acme.test/echo"),
            Some("WRONG_SERVER"),
        ),
        ("another CA", "foreign", localhost(), Some("UNKNOWN_ISSUER")),
    ] {
        let port = serve(pki.trust(server, Role::Server), Limits::default()).await;
        let status = call(&connect(&pki, "orders", port.address, expected), "/t.S/M").await;
        match code {
            None => assert_eq!(status.code(), Code::AlreadyExists, "{case}: {status}"),
            Some(code) => {
                assert_eq!(
                    (status.code(), &*reason(&status)),
                    (Code::Unavailable, code),
                    "{case}: {status}"
                );
                assert!(status.message().contains("we refused"), "{case}: {status}");
            }
        }
    }
    pki.install("only-client", &pki.issuing.issue(&only_client).unwrap());
    let refused = Trust::open(
        Role::Server,
        mtls::Source::directory(pki.dir("only-client")),
        crate::world::reload(),
    );
    assert!(refused.unwrap_err().to_string().contains("serverAuth"));
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable_and_named() {
    let pki = Pki::new();
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let status = call(&pki.channel("orders", free), "/t.S/M").await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&free.to_string()), "{status}");
}

#[tokio::test]
async fn a_plaintext_server_is_called_one() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket
                .write_all(&Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
                .await
                .ok();
        }
    });
    let status = call(&pki.channel("orders", address), "/t.S/M").await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Unavailable, "NOT_TLS"),
        "{status}"
    );
    server.abort();
}

#[tokio::test]
async fn a_channel_is_a_tower_service() {
    let pki = Pki::new();
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    let request = Request::builder()
        .method("POST")
        .uri("/t.S/M")
        .body(Body::empty())
        .unwrap();
    let response = pki
        .channel("orders", port.address)
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "6");
}
