//! A caller that is refused repeatedly neither fills a disk nor crowds out other callers in the logs, and is still
//! reported.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_contract::v1::EchoRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tonic::Code;

use crate::world::{Pki, Server};

const CALLS: u64 = 400;

fn about<'a>(line: &'a Value, message: &str, identity: &str) -> Option<&'a Value> {
    let is_it = line["message"] == message && line["peer.identity"] == identity;
    is_it.then_some(line)
}

async fn denied(pki: &Pki, name: &str, address: SocketAddr, times: u64) {
    let mut client = pki.client(name, address);
    for _ in 0..times {
        let text = "NOT_FOUND".to_owned();
        let status = client.echo(EchoRequest { text }).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_denied_again_and_again_is_a_number_and_hides_nobody() {
    let pki = Pki::new();
    let (file, audit) = (
        pki.dir.path().join("policy.json"),
        pki.dir.path().join("audit.log"),
    );
    let logger = json!({"name": "file_logger", "config": {"path": audit.to_str().unwrap()}});
    let policy = json!({
        "name": "guard",
        "allow_rules": [{"name": "catalog", "source": {"principals": ["spiffe://acme.test/catalog"]}}],
        "audit_logging_options": {"audit_condition": "ON_DENY", "audit_loggers": [logger]},
    });
    std::fs::write(&file, policy.to_string()).unwrap();
    let mut server = Server::start(&pki, &["--policy", file.to_str().unwrap()]);
    denied(&pki, "marketing", server.address, CALLS).await;
    denied(&pki, "auditor", server.address, 1).await;
    let (loud, quiet) = ("spiffe://acme.test/marketing", "spiffe://acme.test/auditor");
    for message in ["call refused", "call finished"] {
        server
            .log
            .wait(|line| about(line, message, quiet).is_some());
    }

    server.signal("TERM");
    assert!(server.wait().success());
    // The last line that the log has: by then the rest is said.
    server.log.wait(|line| {
        line["message"] == "log lines were suppressed: there were too many of one kind"
    });
    for message in ["call refused", "call finished"] {
        let said = server.log.sum(|line| {
            let line = about(line, message, loud)?;
            Some((1, line["suppressed"].as_u64().unwrap_or(0)))
        });
        let rest = server.log.sum(|line| {
            let text = "log lines were suppressed: there were too many of one kind";
            let line = about(line, text, loud).filter(|line| line["of"] == message)?;
            Some((1, line["count"].as_u64().unwrap()))
        });
        assert!((50..100).contains(&said.0), "{message}: {said:?}");
        assert_eq!(
            said.0 + said.1 + rest.1,
            CALLS,
            "{message}: {said:?} {rest:?}"
        );
    }

    let text = std::fs::read_to_string(&audit).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["grpc_audit_log"].clone())
        .collect();
    let of = |principal: &str| -> (u64, u64) {
        let of = events
            .iter()
            .filter(|event| event["principal"] == principal);
        of.fold((0, 0), |(events, left_out), event| {
            let more = event["left_out"].as_u64().unwrap_or(0);
            (events + 1, left_out + more)
        })
    };
    assert_eq!(of(quiet), (1, 0));
    let (written, left_out) = of(loud);
    assert!((100..150).contains(&written), "{written}");
    assert_eq!(written + left_out, CALLS);
}

/// Says what is no TLS, from this address.
async fn junk(from: &str, address: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut tcp = socket.connect(address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.ok();
    tcp.read_to_end(&mut Vec::new()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_from_one_address_hides_no_refusal_of_another() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    for _ in 0..200 {
        junk("127.0.0.1", server.address).await;
    }
    for other in 2..22 {
        let from = format!("127.0.0.{other}");
        junk(&from, server.address).await;
        let line = server.log.wait(|line| {
            let address = line["peer.address"].as_str().unwrap_or_default();
            address.starts_with(&format!("{from}:"))
        });
        assert_eq!(line["code"], "NOT_TLS");
    }
    let of_one = server.log.count(|line| {
        let address = line["peer.address"].as_str().unwrap_or_default();
        address.starts_with("127.0.0.1:")
    });
    assert!((50..100).contains(&of_one), "{of_one}");
}
