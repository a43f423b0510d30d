//! What a program gets by depending on the library, and nothing else: its `main` is the dozen lines of the echo server.

use std::fs;
use std::process::Command;
use std::time::Duration;

use identity::Role;
use mtls::{Channel, Source, Trust};
use serde_json::Value;
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::{CollectRequest, EchoRequest, WatchRequest, WatchResponse};
use tokio::time::timeout;
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::scrape::{Scrape, get};
use crate::world::{PATIENCE, Pki, RELOAD, Server, reload, repository, spec};

type Client = EchoServiceClient<Channel>;

const SETTINGS: [&str; 4] = [
    "--max-concurrent-calls-per-peer",
    "2",
    "--first-message-timeout",
    "1s",
];
const NO_CALLER: &str = r#"{"name": "closed", "allow_rules": [
    {"name": "other", "source": {"principals": ["spiffe://acme.test/other"]}}]}"#;

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
    timeout(PATIENCE, freed).await.unwrap()
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

async fn ended(texts: &mut Streaming<WatchResponse>) -> Status {
    let ended = timeout(PATIENCE, texts.message()).await;
    ended.unwrap().unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_gets_by_depending_on_the_library() {
    let pki = Pki::new();
    let auditor = pki.issue("auditor", &spec("auditor"));
    let policy = pki.dir.path().join("policy.json");
    fs::copy(repository().join("tests/library/policy.json"), &policy).unwrap();
    let args = [&SETTINGS[..], &["--policy", policy.to_str().unwrap()]].concat();
    let server = Server::start(&pki, &args);

    // Health.
    assert_eq!(get(server.admin, "/readyz").0, "HTTP/1.1 200 OK");

    // Authorization, and a line in the log and in the audit about a denied call.
    let mut marketing = pki.client("marketing", server.address);
    let denied = marketing.echo(EchoRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let line = server.log.wait(|line| line["message"] == "call refused");
    assert_eq!(line["principal"], "spiffe://acme.test/marketing");
    assert_eq!(line["policy"], "echo");
    let audited = |line: &Value| line["grpc_audit_log"]["authorized"] == false;
    server.stdout.wait(audited);

    // A deadline that the server keeps, beside a stream that goes on.
    let mut orders = pki.client("orders", server.address);
    let watched = orders.watch(WatchRequest::default()).await;
    let mut watched = watched.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let mut catalog = pki.client("catalog", server.address);
    let silent = tokio_stream::pending::<CollectRequest>();
    let late = catalog.collect(silent).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert_eq!(reason(&late), "FIRST_MESSAGE_TOO_SLOW");

    // A cap on the calls of one identity.
    let second = free_place(&mut orders).await;
    let third = orders.watch(WatchRequest::default()).await.unwrap_err();
    assert_eq!(third.code(), Code::ResourceExhausted, "{third}");
    assert_eq!(reason(&third), "CALLER_BUSY");
    drop(second);

    // A panic is an error of one call, and of no other.
    let text = "PANIC".to_owned();
    let panicked = catalog.echo(EchoRequest { text }).await.unwrap_err();
    assert_eq!(panicked.code(), Code::Internal, "{panicked}");
    assert!(!panicked.message().contains("wished"), "{panicked}");
    let told =
        |line: &Value| line["message"] == "a handler panicked; its call was answered INTERNAL";
    assert_eq!(server.log.wait(told)["level"], "ERROR");
    catalog.echo(EchoRequest::default()).await.unwrap();

    // Numbers of all of it.
    let scrape = Scrape::of(server.admin);
    for code in [
        "OK",
        "PERMISSION_DENIED",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
    ] {
        let ended = [("rpc_status_code", code)];
        let ended = scrape.sum("rpc_server_call_duration_seconds_count", &ended);
        assert!(ended > 0.0, "no {code} in\n{}", scrape.text());
    }

    // A stream whose caller is revoked ends with the reason, and the others go on.
    let mut lost = pki.client("auditor", server.address);
    let lost = lost.watch(WatchRequest::default()).await;
    let mut lost = lost.unwrap().into_inner();
    assert!(lost.message().await.unwrap().is_some());
    pki.put("echo", "crl.pem", pki.crl(1, &[&auditor]));
    let status = ended(&mut lost).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert_eq!(reason(&status), "CERTIFICATE_REVOKED");
    let open = timeout(Duration::from_millis(100), watched.message()).await;
    assert!(open.is_err(), "{open:?}");

    // The live policy.
    let next = policy.with_extension("next");
    fs::write(&next, NO_CALLER).unwrap();
    fs::rename(next, &policy).unwrap();
    let status = ended(&mut watched).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(reason(&status), "POLICY_CHANGED");
}

/// The credentials of the process that is started with this in its environment.
const NO_SUBSCRIBER: &str = "COUNTERSIGN_TEST_NO_SUBSCRIBER";

#[tokio::test]
async fn a_program_without_a_subscriber() {
    let Some(dir) = std::env::var_os(NO_SUBSCRIBER) else {
        return;
    };
    let open = || Trust::open(Role::Server, Source::directory(&dir), reload()).unwrap();
    let _trusts = [open(), open()];
    // Long enough to say it twice.
    tokio::time::sleep(10 * RELOAD).await;
}

#[test]
fn a_server_made_of_parts_warns_once_that_it_has_no_log() {
    let pki = Pki::new();
    let program = Command::new(std::env::current_exe().unwrap())
        .args([
            "what_a_service_gets::a_program_without_a_subscriber",
            "--exact",
            "--nocapture",
        ])
        .env(NO_SUBSCRIBER, pki.dir("echo"))
        .output()
        .unwrap();
    let said = String::from_utf8(program.stderr).unwrap();
    assert!(program.status.success(), "{said}");
    assert_eq!(
        said.matches("this program has no tracing subscriber")
            .count(),
        1,
        "{said}"
    );
    // A program with a log does not warn.
    let server = Server::start(&pki, &[]);
    server.log.wait(|line| line["message"] == "listening");
    pki.issue("echo", &spec("echo"));
    let in_use = |line: &Value| line["message"] == "credentials in use" && line["generation"] == 2;
    server.log.wait(in_use);
    let warning = |line: &Value| line.to_string().contains("no tracing subscriber");
    assert_eq!(server.log.count(warning), 0);
}
