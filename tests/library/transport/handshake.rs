//! What a handshake takes, and what becomes of those who do not finish it.

use std::time::Duration;

use identity::Role;
use mtls::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::{call, serve};
use crate::world::Pki;

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
