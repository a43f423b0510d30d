//! The inventory server.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use countersign::identity::Role;
use countersign::server::{Service, Services, Settings};
use mimalloc::MiMalloc;
use server::service::{self, InventoryLimits};
use server::store::Data;

/// Of its own, for the many connections that are idle: they take less memory so than with the C library's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What is served, and where its files are unless a setting says otherwise.
const SERVICE: Service = Service {
    name: "inventory",
    descriptors: proto::FILE_DESCRIPTOR_SET,
    tls_dir: "certs/inventory",
    policy: "crates/server/policy.json",
};

/// Why the server stops by itself.
const DATA_LOST: &str = "the data file cannot be written; what was acknowledged is on disk";

/// The inventory service: stock levels and reservations, over mutual TLS, for the callers that the policy allows.
#[derive(Debug, Parser)]
#[command(version, about)]
struct ServerArgs {
    #[command(flatten)]
    server: Settings,

    /// The data file, which is created if missing; or, for several servers, postgres://USER@HOST/NAME without a password
    #[arg(
        long,
        env = "APP_DATA_FILE",
        hide_env_values = true,
        default_value = "data/inventory.redb",
        value_name = "FILE|URL"
    )]
    data: OsString,
}

fn main() -> ExitCode {
    let ServerArgs { server, data } = SERVICE.parse();
    let limits = InventoryLimits {
        message_bytes: server.limits.max_message_size,
        ..InventoryLimits::default()
    };
    // The server is a client of the database, with its own credentials.
    let credentials = server.credentials.clone();
    let (checked, ours) = (data.clone(), credentials.clone());
    SERVICE
        .server(server)
        .check(move || Data::parse(&checked)?.check(|| ours.open(Role::Client)))
        .run(async move || {
            let data = Data::parse(&data)?;
            let store = data.open(|| credentials.open(Role::Client)).await?;
            let metrics = store.clone();
            Ok(Services::new()
                .add_service(service::inventory(store.clone(), limits))
                .ready_while(store.readiness())
                .with_metrics(move |registry| metrics.register(registry))
                .stop_when(async move {
                    store.failed().await;
                    DATA_LOST.to_owned()
                }))
        })
}
