//! One call in the log, and on its way to a collector.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cli::pki::Purpose;
use http_body_util::{BodyExt as _, Full};
use identity::Role;
use mtls::{Channel, Limits};
use serde_json::Value;
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;
use tonic::body::Body;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::operations::{ask, call};
use crate::scrape::Scrape;
use crate::world::{Pki, Server, command, eventually, run, spec};

const METHOD: &str = "countersign.test.v1.EchoService/Echo";
const PATH: &str = "/countersign.test.v1.EchoService/Echo";

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

/// A server that sends its spans to a collector, and what that got by the time the server ended.
struct Traced {
    server: Server,
    told: Receiver<(String, Vec<u8>)>,
}

impl Traced {
    fn start(pki: &Pki, sampler: &[(&str, &str)]) -> Self {
        let (address, told) = collector();
        let mut program = command("echo-server");
        program
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .envs(sampler.iter().copied());
        let server = Server::start_as(program, pki, &[]);
        Self { server, told }
    }

    /// The last spans are sent before it ends.
    fn end(mut self) -> Vec<u8> {
        self.server.signal("TERM");
        assert!(self.server.wait().success());
        self.told.try_iter().flat_map(|(_, body)| body).collect()
    }
}

/// A trace that its caller may or may not want recorded.
fn traceparent(trace: u128, sampled: bool) -> String {
    format!("00-{trace:032x}-b7ad6b7169203331-{:02x}", u8::from(sampled))
}

/// A call that ends with OK.
async fn goes_well(channel: &Channel, traceparent: &str) {
    let mut request = Request::new(EchoRequest {
        text: "well".to_owned(),
    });
    let value = traceparent.parse().unwrap();
    request.metadata_mut().insert("traceparent", value);
    let mut client = EchoServiceClient::new(channel.clone());
    client.echo(request).await.unwrap();
}

async fn is_denied(channel: &Channel, traceparent: &str) {
    let answer = call(channel, PATH, &[("traceparent", traceparent)]).await;
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_wants_no_span_hides_what_went_well_and_no_denied_call() {
    let [unwanted, wanted, denied] = [1, 2, 3].map(|n: u128| n << 64 | 0x0af7_6519_16cd_43dd);
    let pki = Pki::new();
    let traced = Traced::start(&pki, &[]);
    let orders = pki.channel("orders", traced.server.address);
    goes_well(&orders, &traceparent(unwanted, false)).await;
    goes_well(&orders, &traceparent(wanted, true)).await;
    let marketing = pki.channel("marketing", traced.server.address);
    is_denied(&marketing, &traceparent(denied, false)).await;
    let line = traced
        .server
        .log
        .wait(|line| line["message"] == "call refused");
    assert_eq!(line["trace_id"], format!("{denied:032x}"));
    let span = u64::from_str_radix(line["span_id"].as_str().unwrap(), 16).unwrap();

    let body = traced.end();
    assert!(contains(&body, &wanted.to_be_bytes()));
    assert!(!contains(&body, &unwanted.to_be_bytes()));
    for expected in [
        &denied.to_be_bytes()[..],
        &span.to_be_bytes(),
        &0xb7ad_6b71_6920_3331_u64.to_be_bytes(),
        METHOD.as_bytes(),
        b"spiffe://acme.test/marketing",
        b"PERMISSION_DENIED",
        b"service.name",
    ] {
        assert!(contains(&body, expected), "{expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_denied_calls_that_want_no_span_has_as_many_as_its_quota_and_hides_no_other() {
    const CALLS: u32 = 300;
    const BURST: u32 = 50;
    let pki = Pki::new();
    let traced = Traced::start(&pki, &[]);
    let channel = pki.channel("marketing", traced.server.address);
    let began = Instant::now();
    for n in 1..=CALLS {
        is_denied(&channel, &traceparent(n.into(), false)).await;
    }
    let refilled = u32::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let other = pki.channel("auditor", traced.server.address);
    let record = PATH.replace("/Echo", "/Record");
    let unwanted = traceparent(1, false);
    call(&other, &record, &[("traceparent", &unwanted)]).await;
    let left_out = eventually("all calls end", || {
        let scrape = Scrape::of(traced.server.admin);
        let denied = [("rpc_status_code", "PERMISSION_DENIED")];
        let ended = scrape.sum("rpc_server_call_duration_seconds_count", &denied);
        let left_out = scrape.sum("trace_spans_total", &[("result", "left_out")]);
        (ended == f64::from(CALLS + 1)).then_some(left_out)
    });

    let body = traced.end();
    let spans = |peer: &str| {
        let peer = format!("spiffe://acme.test/{peer}");
        let spans = body.windows(peer.len()).filter(|it| *it == peer.as_bytes());
        u32::try_from(spans.count()).unwrap()
    };
    let loud = spans("marketing");
    assert!((BURST..=BURST + refilled).contains(&loud), "{loud}");
    assert_eq!(left_out, f64::from(CALLS - loud));
    assert_eq!(spans("auditor"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sampler_that_the_operator_sets_decides_about_a_denied_call_that_wants_no_span() {
    let none = ("OTEL_TRACES_SAMPLER_ARG", "0");
    let all = ("OTEL_TRACES_SAMPLER_ARG", "1");
    for (sampler, share, is_seen) in [
        ("always_off", none, false),
        ("parentbased_always_off", none, false),
        ("parentbased_traceidratio", none, false),
        ("parentbased_traceidratio", all, true),
    ] {
        let pki = Pki::new();
        let traced = Traced::start(&pki, &[("OTEL_TRACES_SAMPLER", sampler), share]);
        let channel = pki.channel("marketing", traced.server.address);
        is_denied(&channel, &traceparent(1, false)).await;
        let seen = contains(&traced.end(), b"spiffe://acme.test/marketing");
        assert_eq!(seen, is_seen, "{sampler} {share:?}");
    }
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
        line["message"] == "the collector does not accept spans; they are dropped until it does"
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

/// A collector that is called by mutual TLS, and takes everything; who called it, and what it got.
async fn mutual_collector(pki: &Pki) -> (SocketAddr, Receiver<(String, Bytes)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    tokio::spawn(mtls::serve(
        listener,
        pki.trust("collector", Role::Server),
        Limits::default(),
        move |peer, _lease| {
            let (tell, peer) = (tell.clone(), peer.to_string());
            tower::service_fn(move |request: http::Request<Body>| {
                let (tell, peer) = (tell.clone(), peer.clone());
                async move {
                    let path = request.uri().path().to_owned();
                    assert_eq!(
                        path,
                        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                    );
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    // Nobody may listen any more.
                    tell.send((peer, body)).ok();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    // An empty message, with its length before it.
                    let answer = Full::new(Bytes::from_static(&[0; 5]))
                        .with_trailers(std::future::ready(Some(Ok(trailers))));
                    let answer = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .body(Body::new(answer));
                    Ok::<_, Infallible>(answer.unwrap())
                }
            })
        },
        std::future::pending(),
    ));
    (address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_go_by_mutual_tls_as_the_service_to_the_collector_that_is_expected() {
    let pki = Pki::new();
    let mut its = spec("collector");
    its.purposes = vec![Purpose::Server];
    pki.issue("collector", &its);
    let mut own = spec("echo");
    own.purposes = vec![Purpose::Server, Purpose::Client];
    pki.issue("echo", &own);
    let (address, told) = mutual_collector(&pki).await;
    let start = |id: &str| {
        let mut program = command("echo-server");
        program
            .env(
                "APP_OTLP_ENDPOINT",
                format!("https://localhost:{}", address.port()),
            )
            .env("APP_OTLP_SERVER_ID", id)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50");
        Server::start_as(program, &pki, &[])
    };
    let server = start("spiffe://acme.test/collector");
    ask(&pki, "orders", server.address).await;
    let (caller, body) = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(caller, "spiffe://acme.test/echo");
    for wanted in [METHOD, "spiffe://acme.test/orders", "service.name"] {
        assert!(contains(&body, wanted.as_bytes()), "{wanted:?}");
    }
    eventually("the spans are counted", || {
        let exported = [("result", "exported")];
        (Scrape::of(server.admin).sum("trace_spans_total", &exported) >= 1.0).then_some(())
    });

    // A new certificate is in use for the next connection, which takes the place of this one.
    let old = server
        .log
        .count(|line| line["message"] == "credentials in use");
    pki.issue("echo", &own);
    server
        .log
        .wait(|line| line["message"] == "moved to a connection with the new certificate");
    assert!(
        server
            .log
            .count(|line| line["message"] == "credentials in use")
            > old
    );
    ask(&pki, "orders", server.address).await;
    told.recv_timeout(Duration::from_secs(30)).unwrap();

    let server = start("spiffe://acme.test/another");
    ask(&pki, "orders", server.address).await;
    let refused = server
        .log
        .wait(|line| line["message"] == "connection failed");
    assert_eq!(refused["code"], "WRONG_SERVER", "{refused}");
    server.log.wait(|line| {
        line["message"] == "the collector does not accept spans; they are dropped until it does"
    });
    assert!(told.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn two_collectors_and_headers_for_one_by_mutual_tls_are_errors_at_the_start() {
    let pki = Pki::new();
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ] {
        let output = command("echo-server")
            .env(variable, value)
            .arg("--tls-dir")
            .arg(pki.dir("echo"))
            .args(["--otlp-endpoint", "https://localhost:4317", "check"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{variable}: {said}");
        assert!(said.contains(&format!("error: {variable}")), "{said}");
        assert!(!said.contains("hunter2"), "a secret is shown: {said}");
    }
}
