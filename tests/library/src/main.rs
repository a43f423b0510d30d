//! The server that the tests of the library run as a process: the library around a service that echoes.

use std::process::ExitCode;

use clap::Parser;
use countersign::server::{Service, Services, Settings};
use harness::echo::Echo;
use test_contract::v1::echo_service_server::EchoServiceServer;

const SERVICE: Service = Service {
    name: "echo",
    descriptors: test_contract::FILE_DESCRIPTOR_SET,
    tls_dir: "certs/echo",
    policy: "tests/library/policy.json",
};

/// Echoes what callers send, for the tests of the library.
#[derive(Debug, Parser)]
#[command(version, about)]
struct EchoServer {
    #[command(flatten)]
    server: Settings,
}

fn main() -> ExitCode {
    let EchoServer { server } = SERVICE.parse();
    SERVICE
        .server(server)
        .run(async || Ok(Services::new().add_service(EchoServiceServer::new(Echo::default()))))
}
