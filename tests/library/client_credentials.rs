//! A client whose own credentials change: it tries new ones at once, whatever became of the last ones.

use std::time::Duration;

use cli::pki::Purpose;
use countersign::client::{Client, Connection};
use test_contract::v1::RecordRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;
use tonic::Code;

use crate::load;
use crate::scrape::get;
use crate::world::{Pki, Server, eventually_async, spec};

fn client_that_hardly_tries_again(pki: &Pki, server: &Server) -> Client {
    let source = mtls::Source::directory(pki.dir("orders"));
    let mut connection = Connection::new(load::target(server.address), source);
    connection.reload.interval = Duration::from_millis(50);
    connection.options.min_backoff = Duration::from_secs(3600);
    connection.options.max_backoff = Duration::from_secs(3600);
    load::connect(connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_are_tried_at_once_although_the_last_ones_failed() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut not_for_clients = spec("orders");
    not_for_clients.purposes = vec![Purpose::Server];
    pki.issue("orders", &not_for_clients);
    let client = client_that_hardly_tries_again(&pki, &server);
    let record = async || {
        EchoServiceClient::new(client.channel())
            .record(RecordRequest::default())
            .await
    };
    let refused = record().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");

    pki.issue("orders", &spec("orders"));
    eventually_async("the new certificate is tried", async || record().await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_moves_to_new_credentials_at_once_although_the_move_to_the_last_ones_failed() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    pki.issue("orders", &spec("orders"));
    let client = client_that_hardly_tries_again(&pki, &server);
    EchoServiceClient::new(client.channel())
        .record(RecordRequest::default())
        .await
        .unwrap();
    let handshakes = || {
        let (_, page) = get(server.admin, "/metrics");
        let accepted = "tls_handshakes_total{side=\"server\",result=\"accepted\"";
        let line = page.lines().find(|line| line.starts_with(accepted));
        line.unwrap().to_owned()
    };
    let first = handshakes();
    // The server refuses the next certificate, before the client has it.
    let revoked = pki.issuing.issue(&spec("orders")).unwrap();
    pki.put("echo", "crl.pem", pki.crl(1, &[&revoked]));
    server
        .log
        .wait(|line| line["message"] == "credentials in use" && line["generation"] == 2);
    pki.install("orders", &revoked);
    server
        .log
        .wait(|line| line["code"] == "CERTIFICATE_REVOKED");
    assert_eq!(handshakes(), first);
    pki.issue("orders", &spec("orders"));
    eventually_async("the client has moved", async || {
        (handshakes() != first).then_some(())
    })
    .await;
}
