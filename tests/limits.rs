//! What the server does not take: more calls than there are places for, and connections that nobody uses.

use std::time::Duration;

use mtls::Channel;
use proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use proto::inventory::v1::{GetItemRequest, WatchStockRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::scrape::Scrape;
use crate::world::{Pki, Server, eventually};

async fn get(client: &mut InventoryServiceClient<Channel>) -> Status {
    let request = GetItemRequest {
        sku: "NONE-1".to_owned(),
    };
    client.get_item(request).await.unwrap_err()
}

fn is_turned_away(status: &Status, reason: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, reason);
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(
        delay > Duration::ZERO && delay < Duration::from_secs(5),
        "{delay:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beyond_the_places_is_turned_away_at_once_and_told_when_to_come_back() {
    let pki = Pki::new();
    let args = [
        "--max-concurrent-calls",
        "3",
        "--max-concurrent-calls-per-peer",
        "2",
    ];
    let server = Server::start(&pki, &args);
    let mut orders = pki.client("orders", server.address);
    let mut again = pki.client("orders", server.address);
    let mut auditor = pki.client("auditor", server.address);
    let mut billing = pki.client("billing", server.address);

    let first = orders
        .watch_stock(WatchStockRequest::default())
        .await
        .unwrap();
    let _second = again
        .watch_stock(WatchStockRequest::default())
        .await
        .unwrap();
    is_turned_away(&get(&mut orders).await, "CALLER_BUSY");
    is_turned_away(&get(&mut again).await, "CALLER_BUSY");
    // One identity cannot take the place of another.
    let _third = auditor
        .watch_stock(WatchStockRequest::default())
        .await
        .unwrap();
    is_turned_away(&get(&mut billing).await, "SERVER_BUSY");

    // A place is free as soon as its call has ended.
    drop(first);
    for _ in 0..1_000 {
        if get(&mut billing).await.code() == Code::NotFound {
            break;
        }
    }
    assert_eq!(get(&mut billing).await.code(), Code::NotFound);
    assert_eq!(get(&mut orders).await.code(), Code::NotFound);
    let scrape = Scrape::of(server.admin);
    let shed = |reason| scrape.sum("rpc_server_shed_total", &[("reason", reason)]);
    assert_eq!(shed("CALLER_BUSY"), 2.0, "{}", scrape.text());
    assert!(shed("SERVER_BUSY") >= 1.0, "{}", scrape.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_calls_goes_and_the_next_call_does_not_notice() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--max-connection-idle", "100ms"]);
    let mut orders = pki.client("orders", server.address);
    let ended =
        || Scrape::of(server.admin).sum("tls_connections_ended_total", &[("reason", "IDLE")]);
    for round in 1..=3 {
        assert_eq!(get(&mut orders).await.code(), Code::NotFound);
        eventually("it goes", || (ended() >= f64::from(round)).then_some(()));
    }
    // An open stream is a call, however silent.
    let mut auditor = pki.client("auditor", server.address);
    let mut watch = auditor
        .watch_stock(WatchStockRequest::default())
        .await
        .unwrap()
        .into_inner();
    let open = tokio::time::timeout(Duration::from_millis(500), watch.message()).await;
    assert!(open.is_err(), "{open:?}");
    let live = Scrape::of(server.admin).sum("tls_connections", &[]);
    assert_eq!(live, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_its_size_is_refused() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--max-message-size", "100"]);
    let mut orders = pki.client("orders", server.address);
    assert_eq!(get(&mut orders).await.code(), Code::NotFound);
    let request = GetItemRequest {
        sku: "X".repeat(200),
    };
    let refused = orders.get_item(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_beyond_all_places_waits_until_one_is_free() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--max-connections", "2"]);
    let mut held = Vec::new();
    for name in ["orders", "auditor"] {
        let mut client = pki.client(name, server.address);
        let watch = client.watch_stock(WatchStockRequest::default());
        held.push((watch.await.unwrap(), client));
    }
    server.log.wait(|line| line["code"] == "CONNECTIONS_FULL");
    let mut waiting = pki.client("billing", server.address);
    let call = tokio::spawn(async move { get(&mut waiting).await });
    held.pop();
    assert_eq!(call.await.unwrap().code(), Code::NotFound);
}
