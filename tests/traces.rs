//! One call seen from both ends: the server and its client.

use harness::scrape::Scrape;
use harness::world::{Pki, Server, command};

use crate::world::{pki, start};
use serde_json::Value;
use uuid::Uuid;

const METHOD: &str = "inventory.v1.InventoryService/GetItem";

/// The client's own line about the one call that it makes.
fn called(pki: &Pki, server: &Server) -> Value {
    let output = command("client")
        .env("RUST_LOG", "calls=debug")
        .env("APP_LOG_FORMAT", "json")
        .env("APP_TLS_DIR", pki.dir("orders"))
        .env(
            "APP_TARGET",
            format!("https://localhost:{}", server.address.port()),
        )
        .args(["get-item", "NONE-1"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines = said.lines().filter_map(|l| serde_json::from_str(l).ok());
    let line = lines
        .into_iter()
        .find(|line: &Value| line["message"] == "call finished");
    line.unwrap_or_else(|| panic!("no line about the call: {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_is_one_trace_in_both_logs_and_one_more_in_the_histogram() {
    let pki = pki();
    let server = start(&pki, &[]);
    let ours = called(&pki, &server);
    let theirs = server
        .log
        .wait(|line| line["message"] == "call finished" && line["trace_id"] == ours["trace_id"]);
    assert_eq!(theirs["peer.identity"], "spiffe://acme.test/orders");
    assert_eq!(theirs["rpc.method"], METHOD);
    for name in ["request_id", "rpc.method", "rpc.status_code"] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert_ne!(ours["span_id"], theirs["span_id"]);
    let id = Uuid::parse_str(theirs["request_id"].as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    let scrape = Scrape::of(server.admin);
    let labels = [("rpc_method", METHOD), ("rpc_status_code", "NOT_FOUND")];
    let calls = "rpc_server_call_duration_seconds_count";
    assert_eq!(scrape.sum(calls, &labels), 1.0, "{}", scrape.text());
}
