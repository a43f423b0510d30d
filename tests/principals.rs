//! The same name in different fields of a certificate is a different principal.

use cli::pki::{LeafSpec, Subject};
use proto::inventory::v1::{
    GetItemRequest, ImportItemsRequest, ReserveStockRequest, WatchStockRequest,
};
use serde_json::json;
use uuid::Uuid;

use harness::world::hour;

use crate::world::{caller, pki, start};

/// A common name of a subject as RFC 4514 writes it, and an e-mail address as RFC 5322 §3.4.1 allows it.
const NAME: &str = "CN=orders@acme.test";
const SKU: &str = "SHARED-1";

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_another_kind_gets_nobodys_places_reservations_or_name_in_the_log() {
    let pki = pki();
    let subject = Some(NAME.parse::<Subject>().unwrap());
    let by_subject = LeafSpec {
        subject,
        ..LeafSpec::client(hour())
    };
    let by_email = LeafSpec {
        emails: vec![NAME.to_owned()],
        ..LeafSpec::client(hour())
    };
    pki.issue("by-subject", &by_subject);
    pki.issue("by-email", &by_email);
    let file = pki.dir.path().join("policy.json");
    let policy = json!({"name": "open", "allow_rules": [{"name": "everybody"}]});
    std::fs::write(&file, policy.to_string()).unwrap();
    let one = ["--max-concurrent-calls-per-peer", "1", "--log-calls", "all"];
    let args = [&one[..], &["--policy", file.to_str().unwrap()]].concat();
    let server = start(&pki, &args);
    let item = ImportItemsRequest {
        sku: SKU.to_owned(),
        name: "An item for two".to_owned(),
        quantity: 10,
    };
    let mut catalog = caller(&pki, "catalog", server.address);
    let imported = catalog.import_items(tokio_stream::iter([item])).await;
    imported.unwrap();

    let reservation_id = Uuid::new_v4().to_string();
    let request = || ReserveStockRequest {
        reservation_id: reservation_id.clone(),
        sku: SKU.to_owned(),
        quantity: 1,
    };
    // Twice by the first, which is one reservation, and once by the other with the same id.
    for (name, identity) in [
        ("by-subject", NAME.to_owned()),
        ("by-subject", NAME.to_owned()),
        ("by-email", format!("email:{NAME}")),
    ] {
        let mut client = caller(&pki, name, server.address);
        client.reserve_stock(request()).await.unwrap();
        let line = server.log.wait(|line| {
            line["message"] == "call finished" && line["peer.identity"] == identity.as_str()
        });
        assert_eq!(line["rpc.status_code"], "OK");
    }
    let mut by_email = caller(&pki, "by-email", server.address);
    let sku = SKU.to_owned();
    let got = by_email.get_item(GetItemRequest { sku: sku.clone() }).await;
    assert_eq!(got.unwrap().into_inner().item.unwrap().reserved, 2);

    // The one place of the first is taken, and that of the other is free.
    let mut by_subject = caller(&pki, "by-subject", server.address);
    let _watch = by_subject
        .watch_stock(WatchStockRequest::default())
        .await
        .unwrap();
    by_subject
        .get_item(GetItemRequest { sku: sku.clone() })
        .await
        .unwrap_err();
    by_email.get_item(GetItemRequest { sku }).await.unwrap();
}
