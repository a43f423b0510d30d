//! A whole server. Run it with
//! `cargo run -p countersign --example serve -- --tls-dir DIR --policy FILE --listen 127.0.0.1:50051`;
//! `--help` shows every setting.

use std::process::ExitCode;

use clap::Parser;
use countersign::server::{Service, Services, Settings};
use test_contract::v1::echo_service_server::EchoServiceServer;

#[path = "support/echo.rs"]
mod echo;

const SERVICE: Service = Service {
    name: "echo",
    descriptors: test_contract::FILE_DESCRIPTOR_SET,
    tls_dir: "certs/echo",
    policy: "policy.json",
};

/// Echoes what callers send, if the policy allows them
#[derive(Debug, Parser)]
struct Echo {
    #[command(flatten)]
    server: Settings,
}

fn main() -> ExitCode {
    let Echo { server } = SERVICE.parse();
    SERVICE.server(server).run(async || {
        Ok(Services::new().add_service(EchoServiceServer::new(echo::Echo::default())))
    })
}
