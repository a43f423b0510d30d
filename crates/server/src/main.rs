//! The inventory server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use countersign::server::{Service, Services, Settings};
use server::service::{self, InventoryLimits};
use server::store::Store;

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
struct Inventory {
    #[command(flatten)]
    server: Settings,

    /// The data file; it is made when missing
    #[arg(
        long,
        env = "APP_DATA_FILE",
        default_value = "data/inventory.redb",
        value_name = "FILE"
    )]
    data: PathBuf,
}

fn main() -> ExitCode {
    let Inventory { server, data } = SERVICE.parse();
    let limits = InventoryLimits {
        message_bytes: server.limits.max_message_size,
        ..InventoryLimits::default()
    };
    let file = data.clone();
    SERVICE
        .server(server)
        .check(move || Store::check(&file))
        .run(async move || {
            let store = Store::open(&data).await?;
            Ok(Services::new()
                .add_service(service::inventory(store.clone(), limits))
                .stop_when(async move {
                    store.failed().await;
                    DATA_LOST.to_owned()
                }))
        })
}
