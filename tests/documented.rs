//! docs/operations.md against the code: it lists every metric and every log event, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};

use harness::scrape::Scrape;
use harness::world::{Log, command, repository};

use crate::world::{pki, start_as};

/// The rows of the table after the comment `<!-- name -->`, cell by cell.
pub(crate) fn table(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap();
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells
            .map(|cell| cell.trim().trim_matches('`').trim().to_owned())
            .collect()
    };
    rows.skip(2).map(cells).collect()
}

/// The metrics that are documented of `S`, the server, or `C`, the client.
fn documented(side: char) -> BTreeSet<String> {
    table("metrics")
        .into_iter()
        .filter(|row| row[1].contains(side))
        .map(|row| row[0].clone())
        .collect()
}

/// With a collector, so that there are all metrics that there can be.
const COLLECTOR: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let pki = pki();
    let mut program = command("server");
    program.envs([COLLECTOR]);
    let server = start_as(program, &pki, &[]);
    assert_eq!(Scrape::of(server.admin).families(), documented('S'));

    let target = format!("https://localhost:{}", server.address.port());
    let mut worker = Worker(
        command("client")
            .envs([COLLECTOR])
            .env("APP_TLS_DIR", pki.dir("orders"))
            .env("APP_LOG_FORMAT", "json")
            .args(["--target", &target, "run", "--admin-listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let log = Log::of(worker.0.stderr.take().unwrap());
    let line = log.wait(|line| line["message"] == "admin port listening");
    let admin = line["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(Scrape::of(admin).families(), documented('C'));
}

#[test]
fn alerts_and_dashboard_ask_for_no_metric_that_there_is_not() {
    let mut known: BTreeSet<_> = documented('S').union(&documented('C')).cloned().collect();
    known.extend(
        table("database metrics")
            .into_iter()
            .map(|row| row[0].clone()),
    );
    for file in [
        "deploy/prometheus/rules.yml",
        "deploy/grafana/countersign.json",
    ] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let prefixes = ["rpc_server_", "rpc_client_", "authz_", "tls_", "config_"];
        let others = ["log_lines_", "trace_spans_", "process_", "store_"];
        let prefixes = [&prefixes[..], &others].concat();
        for word in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))) {
            let family = word.trim_end_matches("_bucket").trim_end_matches("_count");
            assert!(known.contains(family), "{file} asks for {word}");
        }
    }
}

#[test]
fn every_log_event_is_documented_and_every_documented_one_is_there() {
    let lists = [
        authz::events::ALL,
        mtls::events::ALL,
        countersign::telemetry::events::ALL,
        countersign::events::ALL,
        server::events::ALL,
        client::events::ALL,
    ];
    let events: BTreeSet<_> = lists.concat().into_iter().map(str::to_owned).collect();
    let documented: BTreeSet<_> = table("events")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let undocumented: Vec<_> = events.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&events).collect();
    assert!(
        undocumented.is_empty() && gone.is_empty(),
        "undocumented: {undocumented:#?}\ngone: {gone:#?}"
    );
}
