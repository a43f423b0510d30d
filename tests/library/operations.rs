//! What an operator sees on the admin port in normal operation and under faults.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStderr, Stdio};

use http::{Request, Response};
use mtls::Channel;
use test_contract::v1::{EchoRequest, WatchRequest};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tower::ServiceExt;

use crate::scrape::{Scrape, get, health, promtool};
use crate::world::{Pki, Server, command, eventually, eventually_async, repository, run, spec};

const CALLS: &str = "rpc_server_call_duration_seconds_count";

/// An error that is an answer from the service itself.
pub(crate) async fn ask(pki: &Pki, identity: &str, address: SocketAddr) -> Status {
    let request = EchoRequest {
        text: "NOT_FOUND".to_owned(),
    };
    let mut client = pki.client(identity, address);
    client.echo(request).await.unwrap_err()
}

/// A call of any path, with any headers.
pub(crate) async fn call(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
) -> Response<Body> {
    let mut request = Request::post(path)
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    channel.clone().oneshot(request).await.unwrap()
}

/// Scrapes until `wanted` holds.
fn until(server: &Server, what: &str, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    eventually(what, || {
        Some(Scrape::of(server.admin)).filter(|scrape| wanted(scrape))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_counted_by_its_method_and_code_and_its_connection_by_its_root() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let channel = pki.channel("orders", server.address);
    let path = "/countersign.test.v1.EchoService/Echo";
    drop(call(&channel, path, &[]).await);

    let scrape = until(&server, "the call ends", |scrape| {
        let labels = [
            ("rpc_system_name", "grpc"),
            ("rpc_method", "countersign.test.v1.EchoService/Echo"),
        ];
        scrape.sum(CALLS, &labels) == 1.0
    });
    let accepted = [("side", "server"), ("result", "accepted")];
    assert_eq!(scrape.sum("tls_handshakes_total", &accepted), 1.0);
    let root = [("side", "server"), ("root", "CN=test root")];
    assert_eq!(scrape.sum("tls_connections", &root), 1.0);
    let allowed = [("decision", "allow")];
    assert_eq!(scrape.sum("authz_decisions_total", &allowed), 1.0);
    assert_eq!(scrape.sum("rpc_server_ready", &[]), 1.0);
    promtool(&["check", "metrics"], scrape.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_paths_that_nobody_serves_are_one_series() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let channel = pki.channel("orders", server.address);
    let before = Scrape::of(server.admin).series(CALLS).count();
    for n in 0..1000 {
        drop(call(&channel, &format!("/made.Up/{n}"), &[]).await);
    }
    let scrape = until(&server, "all calls end", |scrape| {
        scrape.sum(CALLS, &[("rpc_method", "_OTHER")]) == 1000.0
    });
    assert_eq!(
        scrape.series(CALLS).count(),
        before + 1,
        "{}",
        scrape.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_tell_of_a_rotation_a_denial_a_revocation_an_overload_and_a_drain() {
    let pki = Pki::new();
    let auditor = pki.issue("auditor", &spec("auditor"));
    pki.put("echo", "crl.pem", pki.crl(1, &[]));
    let args = ["--drain-delay", "1s", "--max-concurrent-calls", "2"];
    let mut server = Server::start(&pki, &args);
    let watch = WatchRequest::default();
    let mut watched = pki.client("auditor", server.address);
    let mut watched = watched.watch(watch.clone()).await.unwrap().into_inner();
    assert_eq!(
        ask(&pki, "orders", server.address).await.code(),
        Code::NotFound
    );

    // A rotation, then one that is torn, then one that is good again.
    let tls = ("input", "tls");
    let expiry = "tls_certificate_expiration_timestamp_seconds";
    let leaf = [("side", "server"), ("role", "leaf")];
    let first = Scrape::of(server.admin).sum(expiry, &leaf);
    let mut longer = spec("echo");
    longer.validity = crate::world::validity(std::time::Duration::from_secs(1800));
    pki.issue("echo", &longer);
    let rotated = until(&server, "the rotation", |scrape| {
        scrape.sum("config_reloads_total", &[tls, ("result", "accepted")]) == 1.0
    });
    assert_eq!(rotated.sum("config_generation", &[tls]), 2.0);
    assert!(rotated.sum(expiry, &leaf) < first, "{}", rotated.text());
    // A rotation that is seen half-way, with the key of one pair and the certificate of another, counts too.
    let refused = [tls, ("result", "refused")];
    let refused_before = rotated.sum("config_reloads_total", &refused);
    let key = fs::read(pki.dir("echo").join("tls.key")).unwrap();
    pki.put("echo", "tls.key", "torn");
    until(&server, "the torn one is refused", |scrape| {
        scrape.sum("config_last_reload_successful", &[tls]) == 0.0
            && scrape.sum("config_reloads_total", &refused) > refused_before
    });
    pki.put("echo", "tls.key", key);
    until(&server, "the good one is back", |scrape| {
        scrape.sum("config_last_reload_successful", &[tls]) == 1.0
    });

    // A denial.
    assert_eq!(
        ask(&pki, "marketing", server.address).await.code(),
        Code::PermissionDenied
    );
    until(&server, "the denial", |scrape| {
        scrape.sum("authz_decisions_total", &[("decision", "deny")]) == 1.0
    });

    // An overload: two watches take both places.
    let mut another = pki.client("orders", server.address);
    let another = another.watch(watch).await.unwrap();
    assert_eq!(
        ask(&pki, "orders", server.address).await.code(),
        Code::ResourceExhausted
    );
    until(&server, "the overload", |scrape| {
        scrape.sum("rpc_server_shed_total", &[]) == 1.0
    });
    drop(another);

    // A revocation: the stream ends, and a new handshake is refused.
    pki.put("echo", "crl.pem", pki.crl(2, &[&auditor]));
    let cut = loop {
        match watched.message().await {
            Ok(level) => assert!(level.is_some(), "the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::Unauthenticated, "{cut}");
    let reason = ("reason", "CERTIFICATE_REVOKED");
    until(
        &server,
        "the connection of the revoked one ends",
        |scrape| scrape.sum("tls_connections_ended_total", &[reason]) == 1.0,
    );
    ask(&pki, "auditor", server.address).await;
    until(&server, "the revoked one is refused", |scrape| {
        scrape.sum("tls_handshakes_total", &[("result", "refused"), reason]) >= 1.0
    });
    let refused = server.log.wait(|line| {
        line["message"] == "connection refused" && line["code"] == "CERTIFICATE_REVOKED"
    });
    assert_eq!(refused["level"], "WARN");
    assert_eq!(refused["tls.client.issuer"], "CN=test issuing");
    assert_eq!(refused["tls.client.serial"], auditor.serial.to_string());

    // A drain.
    server.signal("TERM");
    let draining = until(&server, "the drain", |scrape| {
        scrape.sum("rpc_server_draining", &[]) == 1.0
    });
    assert_eq!(draining.sum("rpc_server_ready", &[]), 0.0);
    let (status, reason) = get(server.admin, "/readyz");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("HTTP/1.1 503 Service Unavailable", "not ready: draining\n")
    );
    for (service, expected) in [
        ("", ServingStatus::NotServing),
        ("readiness", ServingStatus::NotServing),
        ("liveness", ServingStatus::Serving),
    ] {
        assert_eq!(
            health(server.admin, service).await.unwrap(),
            expected,
            "{service}"
        );
    }
    assert!(server.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_without_tls_and_nothing_else_is() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    for page in ["/livez", "/readyz"] {
        assert_eq!(get(server.admin, page).0, "HTTP/1.1 200 OK", "{page}");
    }
    let service = "countersign.test.v1.EchoService";
    for service in ["", "liveness", "readiness", service] {
        let serving = health(server.admin, service).await.unwrap();
        assert_eq!(serving, ServingStatus::Serving, "{service}");
    }
    let unknown = health(server.admin, "unknown").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    for page in ["/", "/metrics/", "/countersign.test.v1.EchoService/Echo"] {
        let (status, _) = get(server.admin, page);
        assert_eq!(status, "HTTP/1.1 404 Not Found", "{page}");
    }
}

#[test]
fn the_alerts_are_what_prometheus_reads() {
    let rules = repository().join("deploy/prometheus/rules.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
}

#[test]
fn an_admin_port_that_is_taken_is_said_before_anything_is_served() {
    let pki = Pki::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let tls_dir = pki.dir("echo");
    let args = ["--listen", "127.0.0.1:0", "--admin-listen", &address];
    let files = ["--tls-dir", tls_dir.to_str().unwrap()];
    let ended = run("echo-server", args.into_iter().chain(files));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(64), "{said}");
    assert!(
        said.contains(&format!("error: cannot listen on {address}")),
        "{said}"
    );
    assert!(!said.contains("\"listening\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapers_that_are_silent_or_never_read_keep_no_probe_out() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut stuck = Vec::new();
    for n in 0..200 {
        let mut socket = TcpStream::connect(server.admin).unwrap();
        socket.set_nonblocking(true).unwrap();
        if n % 2 == 0 {
            let many = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
            // It fails when no more fits, or when it had to make way.
            socket.write_all(many.as_bytes()).ok();
        }
        stuck.push(socket);
    }
    assert_eq!(get(server.admin, "/livez").0, "HTTP/1.1 200 OK");
    let scrape = Scrape::of(server.admin);
    assert!(
        scrape.sum("process_open_fds", &[]) < 150.0,
        "{}",
        scrape.text()
    );
    assert_eq!(
        ask(&pki, "orders", server.address).await.code(),
        Code::NotFound
    );
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_closed_costs_no_call() {
    unread("info", drop, ("reason", "write_failed")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_costs_no_call() {
    // So many lines for each call that the pipe and the queue are soon full.
    unread("info,h2=trace", std::mem::forget, ("reason", "queue_full")).await;
}

/// A server whose standard error is read until it listens, and then left to `leave`: lines are lost for `reason`.
async fn unread(level: &str, leave: fn(Lines<BufReader<ChildStderr>>), reason: (&str, &str)) {
    let pki = Pki::new();
    let mut program = command("echo-server");
    let mut child = program
        .env("RUST_LOG", level)
        .env("APP_LISTEN_ADDR", "127.0.0.1:0")
        .env("APP_ADMIN_ADDR", "127.0.0.1:0")
        .env("APP_LOG_FORMAT", "json")
        .env("APP_TLS_DIR", pki.dir("echo"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut address = |message: &str| -> SocketAddr {
        loop {
            let line: serde_json::Value =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if line["message"] == message {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
        }
    };
    let (admin, port) = (address("admin port listening"), address("listening"));
    leave(lines);
    let lost = || Scrape::of(admin).sum("log_lines_lost_total", &[reason]);
    eventually_async("lines are lost", || async {
        assert_eq!(ask(&pki, "orders", port).await.code(), Code::NotFound);
        (lost() > 0.0).then_some(())
    })
    .await;
    assert_eq!(ask(&pki, "orders", port).await.code(), Code::NotFound);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_variable_that_nobody_reads_is_named_once_at_start_and_its_value_never() {
    let pki = Pki::new();
    let mut program = command("echo-server");
    program
        .env("APP_COLOUR", "green-secret")
        .env("APP_DB_PASSWORD", "green-secret")
        .env("APP_PORT_50051_TCP", "tcp://10.0.0.1:50051")
        .env("APP_TARGET", "https://orders:50051");
    let server = Server::start_as(program, &pki, &[]);
    let said = "environment variables that are not settings are ignored";
    // What comes before `listening` is there when that is.
    let line = server.log.wait(|line| line["message"] == said);
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["names"], "APP_COLOUR, APP_DB_PASSWORD");
    assert_eq!(server.log.count(|line| line["message"] == said), 1);
    let tells = |line: &serde_json::Value| line.to_string().contains("green-secret");
    assert_eq!(server.log.count(tells), 0);
}
