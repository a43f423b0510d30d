//! One call in the log, and on its way to a collector.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::operations::{ask, call};
use crate::scrape::Scrape;
use crate::world::{Pki, Server, command, eventually, run};

const METHOD: &str = "countersign.test.v1.EchoService/Echo";

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_with_its_call_also_when_calls_are_not() {
    let pki = Pki::new();
    let mut program = command("echo-server");
    program.env("RUST_LOG", "warn,countersign=info");
    let server = Server::start_as(program, &pki, &[]);
    ask(&pki, "marketing", server.address).await;
    let line = server.log.wait(|line| line["message"] == "call refused");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["peer.identity"], "spiffe://acme.test/marketing");
    assert_eq!(line["rpc.method"], METHOD);
    for id in ["request_id", "trace_id", "span_id"] {
        assert!(line[id].is_string(), "{id}: {line}");
    }
    let told = |line: &Value| line["message"] == "call finished";
    assert_eq!(server.log.count(told), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_decides_its_trace_and_its_id_only_in_the_form_that_they_have() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let channel = pki.channel("orders", server.address);
    let path = format!("/{METHOD}");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let good = format!("00-{trace}-b7ad6b7169203331-01");
    let upper = good.to_uppercase();
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";

    let answer = call(
        &channel,
        &path,
        &[("traceparent", &good), ("x-request-id", id)],
    )
    .await;
    assert_eq!(answer.headers()["x-request-id"], id);
    let line = server.log.wait(|line| line["request_id"] == id);
    assert_eq!(line["trace_id"], trace);
    assert_ne!(line["span_id"], "b7ad6b7169203331");

    let forged = "x\",\"level\":\"ERROR";
    let twice = [("traceparent", good.as_str()), ("traceparent", &good)];
    for bad in [
        &[("traceparent", upper.as_str()), ("x-request-id", forged)][..],
        &[("traceparent", "00-0-0-01"), ("x-request-id", "")],
        &twice,
    ] {
        let answer = call(&channel, &path, bad).await;
        let id = answer.headers()["x-request-id"].to_str().unwrap();
        assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7, "{bad:?}");
        let line = server.log.wait(|line| line["request_id"] == id);
        assert_ne!(line["trace_id"], trace, "{bad:?}");
    }
}

/// A collector that takes everything, and what it got.
fn collector() -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut socket = socket;
                while let Some(request) = read_request(&mut socket) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if tell.send(request).is_err() || socket.write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, told)
}

fn read_request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1)?;
    let length = length.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_go_to_the_collector_with_the_trace_and_the_callers_name() {
    let pki = Pki::new();
    let (address, told) = collector();
    let mut program = command("echo-server");
    program
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let server = Server::start_as(program, &pki, &[]);
    ask(&pki, "orders", server.address).await;
    let line = server
        .log
        .wait(|line| line["message"] == "call finished" && line["rpc.method"] == METHOD);
    let trace = line["trace_id"].as_str().unwrap();
    let trace = u128::from_str_radix(trace, 16).unwrap().to_be_bytes();
    let (head, body) = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    for wanted in [
        &trace[..],
        METHOD.as_bytes(),
        b"spiffe://acme.test/orders",
        b"service.name",
        b"echo",
        b"NOT_FOUND",
    ] {
        assert!(contains(&body, wanted), "{wanted:?}");
    }
    eventually("the spans are counted", || {
        let exported = [("result", "exported")];
        (Scrape::of(server.admin).sum("trace_spans_total", &exported) >= 1.0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_said_once_and_costs_no_call() {
    // Bound and closed again, so that nobody is there.
    let away = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = away.local_addr().unwrap();
    drop(away);
    collects_nothing(address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_is_said_once_and_costs_no_call() {
    // Connections wait in its backlog for ever.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    collects_nothing(silent.local_addr().unwrap()).await;
}

async fn collects_nothing(collector: SocketAddr) {
    let pki = Pki::new();
    let endpoint = format!("http://{collector}");
    let mut program = command("echo-server");
    program
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
        .env("OTEL_BSP_SCHEDULE_DELAY", "10");
    let mut server = Server::start_as(program, &pki, &[]);
    let lost = |line: &Value| {
        line["message"] == "the collector takes no spans; they are dropped until it does"
    };
    let mut failed = 0.0;
    for _ in 0..3 {
        ask(&pki, "orders", server.address).await;
        failed = eventually("the span is given up", || {
            let count = [("result", "failed")];
            let now = Scrape::of(server.admin).sum("trace_spans_total", &count);
            (now > failed).then_some(now)
        });
    }
    server.log.wait(lost);
    assert_eq!(server.log.count(lost), 1);
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn a_variable_that_asks_for_what_is_not_there_is_an_error_at_the_start() {
    let pki = Pki::new();
    let tls_dir = pki.dir("echo");
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://user:hunter2@127.0.0.1:4318",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ] {
        let output = command("echo-server")
            .envs([collector, (variable, value)])
            .arg("--tls-dir")
            .arg(&tls_dir)
            .arg("check")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{variable}={value}: {said}");
        assert!(said.contains("error: OTEL_"), "{said}");
        assert!(!said.contains("hunter2"), "a secret is shown: {said}");
    }
    let good = run(
        "echo-server",
        ["--tls-dir", tls_dir.to_str().unwrap(), "check"],
    );
    assert!(good.status.success());
}
