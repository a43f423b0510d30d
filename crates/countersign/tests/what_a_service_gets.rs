//! What a program gets by depending on the library: the example of ten lines, run as a process.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use countersign::mtls::Channel;
use serde_json::Value;
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::{CollectRequest, EchoRequest, WatchRequest, WatchResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt as _;

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use support::Pki;

type Client = EchoServiceClient<Channel>;

const PATIENCE: Duration = Duration::from_secs(30);
/// Calls of one identity at once, in this test.
const CALLS: usize = 2;
const NO_CALLER: &str = r#"{"name": "closed", "allow_rules": [
    {"name": "other", "source": {"principals": ["spiffe://acme.test/other"]}}]}"#;

/// The example as a process, and the lines of its log.
struct Serve {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Serve {
    fn start(pki: &Pki) -> Self {
        // .../target/PROFILE/deps/what_a_service_gets-HASH
        let here = std::env::current_exe().unwrap();
        let profile = here.parent().and_then(Path::parent).unwrap();
        let program = profile.join("examples/serve");
        assert!(
            program.exists(),
            "build it: cargo build -p countersign --example serve"
        );
        let mut child = Command::new(program)
            .env("APP_LISTEN_ADDR", "127.0.0.1:0")
            .env("APP_ADMIN_ADDR", "127.0.0.1:0")
            .env("APP_LOG_FORMAT", "json")
            .env("APP_TLS_DIR", pki.path("echo"))
            .env("APP_TLS_RELOAD_INTERVAL", "100ms")
            .env("APP_AUTHZ_POLICY_FILE", pki.path("policy.json"))
            .env("APP_MAX_CONCURRENT_CALLS_PER_PEER", CALLS.to_string())
            .env("APP_FIRST_MESSAGE_TIMEOUT", "1s")
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let written = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            written
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        Self { child, lines }
    }

    /// The next line with this message.
    fn logged(&self, message: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line of the log says {message:?}"));
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == message {
                return line;
            }
        }
    }

    fn address(&self, message: &str) -> SocketAddr {
        let line = self.logged(message);
        line["address"].as_str().unwrap().parse().unwrap()
    }
}

async fn page(admin: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Opens a stream as soon as the call before it has given its place back.
async fn free_place(client: &mut Client) -> Response<Streaming<WatchResponse>> {
    let freed = async {
        loop {
            match client.watch(WatchRequest::default()).await {
                Ok(opened) => break opened,
                Err(busy) => assert_eq!(reason(&busy), "CALLER_BUSY", "{busy}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.unwrap()
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn what_a_service_gets_by_depending_on_the_library() {
    let pki = Pki::new();
    let server = Serve::start(&pki);
    let admin = server.address("admin port listening");
    let address = server.address("listening");

    // Health.
    let ready = page(admin, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");

    // Authorization, and a line in the log about a denied call.
    let text = "hello".to_owned();
    let mut marketing = pki.client("marketing", address);
    let denied = marketing.echo(EchoRequest { text }).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let line = server.logged("call refused");
    assert_eq!(line["principal"], "spiffe://acme.test/marketing");
    assert_eq!(line["policy"], "echo");

    // A deadline that the server keeps, beside a stream that goes on.
    let mut orders = pki.client("orders", address);
    let watched = orders.watch(WatchRequest::default()).await;
    let mut watched = watched.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let silent = tokio_stream::pending::<CollectRequest>();
    let late = orders.collect(silent).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert_eq!(reason(&late), "FIRST_MESSAGE_TOO_SLOW");

    // A cap on the calls of one identity.
    let second = free_place(&mut orders).await;
    let third = orders.watch(WatchRequest::default()).await.unwrap_err();
    assert_eq!(third.code(), Code::ResourceExhausted, "{third}");
    assert_eq!(reason(&third), "CALLER_BUSY");
    drop(second);

    // Metrics of calls and denials.
    let metrics = page(admin, "/metrics").await;
    for counted in [
        r#"rpc_status_code="PERMISSION_DENIED""#,
        r#"rpc_status_code="DEADLINE_EXCEEDED""#,
        r#"rpc_status_code="RESOURCE_EXHAUSTED""#,
    ] {
        assert!(metrics.contains(counted), "{counted} is not in\n{metrics}");
    }

    // The live policy.
    let next = pki.path("policy.next");
    fs::write(&next, NO_CALLER).unwrap();
    fs::rename(next, pki.path("policy.json")).unwrap();
    let ended = tokio::time::timeout(PATIENCE, watched.message()).await;
    let ended = ended.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert_eq!(reason(&ended), "POLICY_CHANGED");
}
