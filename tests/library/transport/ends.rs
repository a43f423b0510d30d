//! What ends a connection or a call, and what goes on.

use std::time::Duration;

use identity::Role;
use mtls::{Drained, Limits};
use tokio::io::AsyncReadExt;
use tonic::Code;
use tonic::client::Grpc;

use super::{call, serve};
use crate::world::{Pki, spec, validity};

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
