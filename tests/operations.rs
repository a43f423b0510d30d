//! What an operator sees: numbers on the admin port and lines in the log, while the usual and the unusual happens.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use proto::inventory::v1::GetItemRequest;
use tonic::Code;

use crate::world::{Pki, Server};

/// What the admin port answers to a GET: the status line and what follows the headers.
pub(crate) fn get(admin: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(admin).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Every sample of a scrape, by its name with its labels.
pub(crate) struct Scrape {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    pub(crate) fn of(admin: SocketAddr) -> Self {
        let (status, text) = get(admin, "/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            })
            .collect();
        Self { text, samples }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all samples of `family` that have these labels.
    pub(crate) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.of_family(family)
            .filter(|(series, _)| {
                labels
                    .iter()
                    .all(|(name, value)| series.contains(&format!("{name}=\"{value}\"")))
            })
            .map(|(_, value)| value)
            .sum()
    }

    fn of_family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.samples.iter().filter_map(move |(series, value)| {
            let name = series.split('{').next().unwrap_or_default();
            (name == family).then_some((series.as_str(), *value))
        })
    }
}

const CALLS: &str = "rpc_server_call_duration_seconds_count";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_counted_by_its_method_and_code_and_its_connection_by_its_root() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut orders = pki.client("orders", server.address);
    let request = GetItemRequest {
        sku: "NONE-1".to_owned(),
    };
    let missing = orders.get_item(request).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    let scrape = Scrape::of(server.admin);
    let labels = [
        ("rpc_system_name", "grpc"),
        ("rpc_method", "inventory.v1.InventoryService/GetItem"),
        ("rpc_status_code", "NOT_FOUND"),
    ];
    assert_eq!(scrape.sum(CALLS, &labels), 1.0, "{}", scrape.text);
    let accepted = [("side", "server"), ("result", "accepted")];
    assert_eq!(scrape.sum("tls_handshakes_total", &accepted), 1.0);
    let root = [("side", "server"), ("root", "CN=test root")];
    assert_eq!(scrape.sum("tls_connections", &root), 1.0, "{}", scrape.text);
    assert_eq!(
        scrape.sum("authz_decisions_total", &[("decision", "allow")]),
        1.0
    );
    assert_eq!(scrape.sum("rpc_server_ready", &[]), 1.0);
}
