//! The pair in the tests: its identities, its server and its clients, by what the tests of the library are written with.

use std::net::SocketAddr;
use std::process::Command;

use cli::pki::{LeafSpec, Purpose, Roster};
use harness::world::{Pki, Server, command, hour};
use mtls::Channel;
use proto::inventory::v1::inventory_service_client::InventoryServiceClient;

/// The callers in certs/dev.toml.
pub(crate) const IDENTITIES: [&str; 6] = [
    "orders",
    "catalog",
    "auditor",
    "marketing",
    "billing",
    "mainframe",
];

/// What each development certificate says, as in certs/dev.toml; the server's is good for calling too, so that the policy
/// is asked about it.
pub(crate) fn spec(name: &str) -> LeafSpec {
    let text = include_str!("../certs/dev.toml");
    let roster = Roster::parse("certs/dev.toml", text, &"acme.test".parse().unwrap()).unwrap();
    let (_, request) = roster
        .entries()
        .find(|(identity, _)| identity.as_str() == name)
        .unwrap_or_else(|| panic!("{name} is not in certs/dev.toml"));
    let mut spec = request.spec(hour());
    if name == "inventory" {
        spec.purposes = vec![Purpose::Server, Purpose::Client];
    }
    spec
}

/// With a trust directory for the server and one for every caller.
pub(crate) fn pki() -> Pki {
    let pki = Pki::empty();
    for name in IDENTITIES.into_iter().chain(["inventory"]) {
        pki.issue(name, &spec(name));
    }
    pki
}

/// The server with the inventory's certificate and the repository's policy, unless `args` name others.
pub(crate) fn start(pki: &Pki, args: &[&str]) -> Server {
    start_as(command("server"), pki, args)
}

/// The same by another command line that ends in the server.
pub(crate) fn start_as(mut program: Command, pki: &Pki, args: &[&str]) -> Server {
    program
        .env("APP_TLS_DIR", pki.dir("inventory"))
        .env("APP_DATA_FILE", pki.dir("inventory.redb"));
    Server::spawn(program, args)
}

pub(crate) fn caller(
    pki: &Pki,
    name: &str,
    address: SocketAddr,
) -> InventoryServiceClient<Channel> {
    InventoryServiceClient::new(pki.channel(name, address))
}
