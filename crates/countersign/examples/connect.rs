//! A call: `cargo run -p countersign --example connect -- https://localhost:50051 certs/orders`.

use std::error::Error;
use std::io::Write;

use countersign::client::{self, Connection};
use countersign::mtls::{Source, Target};
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;

/// Calls the server at `target` with the credentials in `tls_dir`.
pub(crate) async fn call(target: &str, tls_dir: &str) -> Result<String, Box<dyn Error>> {
    let connection = Connection::new(Target::parse(target)?, Source::directory(tls_dir));
    let client = client::connect(connection, test_contract::FILE_DESCRIPTOR_SET)?;
    let mut echo = EchoServiceClient::new(client.channel());
    let text = "hello".to_owned();
    let answer = echo.echo(EchoRequest { text }).await;
    let answer = answer.map_err(|status| client.error("Echo", status))?;
    Ok(answer.into_inner().text)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(target), Some(tls_dir)) = (arguments.next(), arguments.next()) else {
        return Err("usage: connect https://HOST:PORT DIR".into());
    };
    let answer = call(&target, &tls_dir).await?;
    Ok(writeln!(std::io::stdout(), "{answer}")?)
}
