//! How to test a handler without a server: the request gets a peer that was never on a wire.

use std::error::Error;
use std::sync::Arc;

use countersign::Peer;
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_server::EchoService;
use tonic::Request;

#[path = "support/echo.rs"]
mod echo;

/// The body of a test: in yours, it is a `#[tokio::test]`.
pub(crate) async fn a_handler_sees_who_calls() -> Result<(), Box<dyn Error>> {
    let peer = Peer::unverified_for_tests()
        .uri("spiffe://acme.test/orders")
        .build()?;
    let mut request = Request::new(EchoRequest {
        text: "hello".to_owned(),
    });
    request.extensions_mut().insert(Arc::new(peer));
    let answer = echo::Echo::default().echo(request).await?.into_inner();
    assert_eq!(answer.text, "spiffe://acme.test/orders says hello");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    a_handler_sees_who_calls().await
}
