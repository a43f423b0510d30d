//! The admin port as probes and scrapers see it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use http::Request;
use prost::Message;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::world::skipped;

/// What the admin port answers to a GET: the status line and what follows the headers.
pub fn get(admin: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(admin).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// What the admin port answers to a gRPC health check over HTTP/2 without TLS, as a kubelet sends it.
pub async fn health(admin: SocketAddr, service: &str) -> Result<ServingStatus, Status> {
    let tcp = tokio::net::TcpStream::connect(admin).await.unwrap();
    let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let message = HealthCheckRequest {
        service: service.to_owned(),
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    body.send_data([&[0], &length[..], &message].concat().into(), true)
        .unwrap();
    let answer = answer.await.unwrap();
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return Err(status);
    }
    let message = answer.into_body().data().await.unwrap().unwrap();
    let answer = HealthCheckResponse::decode(&message[5..]).unwrap();
    Ok(answer.status())
}

/// All metrics at one moment.
pub struct Scrape {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    pub fn of(admin: SocketAddr) -> Self {
        let (status, text) = get(admin, "/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self {
            samples: samples.collect(),
            text,
        }
    }

    /// As it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all samples with this name and these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let wanted = |series: &str| labels.iter().all(|label| series.contains(label));
        let series = self.series(name).filter(|(series, _)| wanted(series));
        series.map(|(_, value)| value).sum()
    }

    /// All samples with this name.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.samples.iter().filter_map(move |(series, value)| {
            let of = series.split('{').next().unwrap_or_default();
            (of == name).then_some((series.as_str(), *value))
        })
    }

    /// The names of all families.
    pub fn families(&self) -> BTreeSet<String> {
        let types = self.text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
        types
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    }
}

/// Runs Prometheus' own checker, if it is there: `apt install prometheus`.
pub fn promtool(args: &[&str], input: &str) {
    let tool = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        return skipped("promtool");
    };
    tool.stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {args:?}: {said}");
}
