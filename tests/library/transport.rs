//! The transport alone, in this process: which peers are accepted, which are refused with which reason, and what ends a connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cli::pki::{Authority, LeafSpec, Purpose};
use http::{Request, Response};
use identity::{Peer, Role};
use mtls::{Channel, ChannelOptions, Drained, Limits, ServerIdentity, Target, Trust};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{ServiceExt, service_fn};

use crate::world::{Pki, hour, spec, validity};

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
async fn whoever_does_not_prove_who_it_is_is_cut_off_and_others_are_served() {
    let pki = Pki::new();
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        preface_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let port = serve(pki.trust("echo", Role::Server), limits).await;
    let half_a_hello = &[
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    let waiting: [(&str, &[u8]); 5] = [
        ("a silent socket", b""),
        ("half a ClientHello", half_a_hello),
        ("garbage", &[0xff; 512]),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (
            "plaintext HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        ),
    ];
    for (case, bytes) in waiting {
        let mut socket = TcpStream::connect(port.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let closed =
            tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{case}: still open");
        assert!(rest.len() < 64, "{case}: {rest:?}");
    }
    let status = call(&pki.channel("orders", port.address), "/t.S/M").await;
    assert_eq!(status.code(), Code::AlreadyExists);
    port.stop.send(()).unwrap();
    port.served.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_after_its_handshake_is_cut_and_never_holds_up_the_end() {
    let pki = Pki::new();
    let limits = Limits {
        preface_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let port = serve(pki.trust("echo", Role::Server), limits).await;
    let mut tls = crate::raw::handshake(&pki, "orders", port.address, &[b"h2"])
        .await
        .unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), tls.read_to_end(&mut rest))
        .await
        .unwrap()
        .ok();
    // What hyper says first is its SETTINGS; nothing else was said to a silent peer.
    let silent = crate::raw::handshake(&pki, "orders", port.address, &[b"h2"])
        .await
        .unwrap();
    port.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), port.served)
        .await
        .unwrap()
        .unwrap();
    drop(silent);
}

#[tokio::test]
async fn without_h2_by_alpn_there_is_no_connection() {
    let pki = Pki::new();
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let closed = match crate::raw::handshake(&pki, "orders", port.address, alpn).await {
            Err(_) => true,
            Ok(mut tls) => matches!(tls.read(&mut [0; 64]).await, Ok(0) | Err(_)),
        };
        assert!(closed, "{alpn:?}");
    }
}

#[tokio::test]
async fn aes_128_is_taken_whatever_a_client_prefers_and_a_client_that_lacks_it_gets_what_it_has() {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
    let aes_128 = cipher_suite::TLS13_AES_128_GCM_SHA256;
    let aes_256 = cipher_suite::TLS13_AES_256_GCM_SHA384;
    let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let pki = Pki::new();
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    for (offered, taken) in [
        (vec![chacha, aes_256, aes_128], aes_128),
        (vec![aes_256], aes_256),
        (vec![chacha], chacha),
    ] {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: offered,
            ..default_provider()
        };
        let config = crate::raw::config_by(provider, &pki, "orders", &[b"h2"]);
        let tls = crate::raw::handshake_with(config, port.address)
            .await
            .unwrap();
        let negotiated = tls.get_ref().1.negotiated_cipher_suite();
        assert_eq!(
            negotiated.map(|suite| suite.suite()),
            Some(taken.suite()),
            "the server's order counts"
        );
    }
}

#[tokio::test]
async fn no_session_can_be_resumed() {
    let pki = Pki::new();
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    let config = crate::raw::config(&pki, "orders", &[b"h2"]);
    for _ in 0..3 {
        let mut tls = crate::raw::handshake_with(config.clone(), port.address)
            .await
            .unwrap();
        // A ticket would arrive before or with the first bytes of HTTP/2.
        tls.read_exact(&mut [0; 9]).await.unwrap();
        let kind = tls.get_ref().1.handshake_kind();
        assert_eq!(
            kind,
            Some(rustls::HandshakeKind::Full),
            "a resumed handshake skips the verifier"
        );
    }
}

#[tokio::test]
async fn a_connection_ends_when_the_certificate_of_its_peer_does() {
    let pki = Pki::new();
    let mut short = spec("orders");
    short.validity = validity(Duration::from_secs(3));
    let leaf = pki.issue("orders", &short);
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    let hanging = tokio::spawn({
        let channel = pki.channel("orders", port.address);
        async move { call(&channel, "/t.S/Hang").await }
    });
    let status = hanging.await.unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "CERTIFICATE_EXPIRED"),
        "{status}"
    );
    assert!(time::OffsetDateTime::now_utc() >= short.validity.not_after);
    // It does not get back in.
    let again = crate::raw::handshake(&pki, "orders", port.address, &[b"h2"]).await;
    let turned_away = match again {
        Err(_) => true,
        Ok(mut tls) => tls.read(&mut [0; 9]).await.is_err(),
    };
    assert!(turned_away);
    drop(leaf);
}

#[tokio::test]
async fn a_revoked_peer_loses_its_open_calls_and_the_others_keep_theirs() {
    let pki = Pki::new();
    let revoked = pki.issue("orders", &spec("orders"));
    pki.put("echo", "crl.pem", pki.crl(1, &[]));
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    let hang = |name: &str| {
        let channel = pki.channel(name, port.address);
        tokio::spawn(async move { call(&channel, "/t.S/Hang").await })
    };
    let (orders, auditor) = (hang("orders"), hang("auditor"));
    // Both are connected once another call of each was answered.
    for name in ["orders", "auditor"] {
        assert_eq!(
            call(&pki.channel(name, port.address), "/t.S/M")
                .await
                .code(),
            Code::AlreadyExists
        );
    }
    pki.put("echo", "crl.pem", pki.crl(2, &[&revoked]));
    let status = tokio::time::timeout(Duration::from_secs(20), orders)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "CERTIFICATE_REVOKED")
    );
    let status = call(&pki.channel("orders", port.address), "/t.S/M").await;
    assert!(status.message().contains("CertificateRevoked"), "{status}");
    assert_eq!(
        call(&pki.channel("auditor", port.address), "/t.S/M")
            .await
            .code(),
        Code::AlreadyExists
    );
    assert!(!auditor.is_finished());
    auditor.abort();
}

#[tokio::test]
async fn a_drain_lets_open_calls_finish_and_cuts_what_does_not() {
    let pki = Pki::new();
    let limits = Limits {
        drain_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let port = serve(pki.trust("echo", Role::Server), limits).await;
    let channel = pki.channel("orders", port.address);
    assert_eq!(call(&channel, "/t.S/M").await.code(), Code::AlreadyExists);
    let hanging = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "/t.S/Hang").await }
    });
    // The call is under way once a later one on the same connection is answered.
    assert_eq!(call(&channel, "/t.S/M").await.code(), Code::AlreadyExists);
    port.stop.send(()).unwrap();
    assert_eq!(port.served.await.unwrap(), Drained::Cut(1));
    assert_eq!(hanging.await.unwrap().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_deadline_ends_a_call_on_the_side_of_its_caller() {
    let pki = Pki::new();
    let port = serve(pki.trust("echo", Role::Server), Limits::default()).await;
    let mut grpc = Grpc::new(pki.channel("orders", port.address));
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    request.set_timeout(Duration::from_millis(100));
    let path = http::uri::PathAndQuery::from_static("/t.S/Hang");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
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
