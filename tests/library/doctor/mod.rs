//! `countersign doctor`: each way in which a connection can fail is set up for real, and doctor must name its cause.

mod servers;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use cli::pki::certificate::Certificate;
use cli::pki::{Authority, LeafSpec, Purpose, Revocation};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use self::servers::{Tomorrow, answering, showing, tls_server};
use crate::world::{Pki, Server, hour, program, skipped, spec};

/// Runs the doctor as a program, twice: for people, and for programs.
async fn doctor(address: &str, dir: &Path, args: &[&str]) -> (Output, Value) {
    let run = |output: &str| {
        let mut command = tokio::process::Command::new(program("countersign"));
        command
            .args(["doctor", address, "--output", output, "--tls-dir"])
            .arg(dir);
        command.args(args).env_clear().kill_on_drop(true);
        command.output()
    };
    let text = run("text").await.unwrap();
    let json = run("json").await.unwrap();
    assert_eq!(text.status, json.status);
    let found: Value =
        serde_json::from_slice(&json.stdout).unwrap_or_else(|e| panic!("{e}: {json:?}"));
    (text, found)
}

/// What a finding has to be like, whatever it says.
async fn expect(
    case: &str,
    address: &str,
    dir: &Path,
    args: &[&str],
    code: &str,
    whose: &str,
    says: &str,
) {
    let (text, found) = doctor(address, dir, args).await;
    assert_eq!(
        (&found["code"], &found["whose"]),
        (&code.into(), &whose.into()),
        "{case}: {found}"
    );
    let cause = found["cause"].as_str().unwrap();
    assert!(cause.contains(says), "{case} wants {says:?}: {cause}");
    let lines = String::from_utf8(text.stdout).unwrap();
    assert_eq!(lines.lines().count(), 3, "{case}: {lines}");
    assert!(lines.starts_with(&format!("{code}: ")), "{case}: {lines}");
    assert_eq!(text.stderr, b"", "{case}");
    let healthy = code == "HEALTHY";
    assert_eq!(
        text.status.code(),
        Some(if healthy { 0 } else { 1 }),
        "{case}"
    );
    for bare in ["transport error", "operation was canceled"] {
        assert!(!lines.contains(bare), "{case}: {lines}");
    }
    assert!(
        found["remedy"].as_str().unwrap().len() > 10 || healthy,
        "{case}: {found}"
    );
    shows_the_same(case, found["openssl"].as_str().unwrap());
}

/// The command that is shown is one that openssl understands, and it has something to say.
fn shows_the_same(case: &str, command: &str) {
    if Command::new("openssl").arg("version").output().is_err() {
        return skipped("openssl");
    }
    let shown = Command::new("timeout")
        .args(["2", "sh", "-c", command])
        .output();
    let Ok(shown) = shown else {
        return skipped("timeout(1)");
    };
    let said = [shown.stdout, shown.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for not_understood in ["nknown option", "Use -help", ": not found"] {
        assert!(
            !said.contains(not_understood),
            "{case}: `{command}` says {said}"
        );
    }
}

fn local(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}

fn changed(name: &str, change: impl FnOnce(&mut LeafSpec)) -> LeafSpec {
    let mut spec = spec(name);
    change(&mut spec);
    spec
}

fn shifted(minutes: i64, lifetime_minutes: i64) -> cli::pki::Validity {
    let mut validity = hour();
    validity.not_before =
        OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + Duration::minutes(minutes);
    validity.not_after = validity.not_before + Duration::minutes(lifetime_minutes);
    validity
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_is_no_server_of_ours() {
    let pki = Pki::new();
    let orders = pki.dir("orders");
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let at = free.to_string();
    expect(
        "nobody listens",
        &at,
        &orders,
        &[],
        "UNREACHABLE",
        "between",
        "refused",
    )
    .await;

    let plaintext = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = plaintext.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = plaintext.accept().await {
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .ok();
        }
    });
    expect(
        "plaintext",
        &at,
        &orders,
        &[],
        "NOT_TLS",
        "the_servers",
        "does not speak TLS",
    )
    .await;

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let patience = ["--patience", "200ms"];
    expect(
        "silence",
        &at,
        &orders,
        &patience,
        "HANDSHAKE_TIMEOUT",
        "the_servers",
        "in time",
    )
    .await;
    drop(silent);

    let leaf = pki.issue("echo-server", &spec("echo"));
    let at = tls_server(leaf.chain.clone(), &leaf.key_pem, &[b"http/1.1"], None).await;
    expect(
        "HTTP/1.1 alone",
        &local(at),
        &orders,
        &[],
        "NO_HTTP2",
        "the_servers",
        "ALPN",
    )
    .await;
    let at = tls_server(leaf.chain.clone(), &leaf.key_pem, &[], None).await;
    expect(
        "no ALPN",
        &local(at),
        &orders,
        &[],
        "NO_HTTP2",
        "the_servers",
        "ALPN",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_the_server_is_not_good() {
    let pki = Pki::new();
    let orders = pki.dir("orders");
    let issue = |change: fn(&mut LeafSpec)| pki.issuing.issue(&changed("echo", change)).unwrap();
    let stranger = Authority::root("stranger", hour()).unwrap();
    let good = issue(|_| {});
    let revoked = issue(|_| {});
    let mut no_intermediate = good.clone();
    no_intermediate.chain.truncate(1);
    let mut reversed = good.clone();
    reversed.chain.reverse();
    pki.put("orders", "crl.pem", pki.crl(1, &[&revoked]));
    let nameless = |s: &mut LeafSpec| {
        (s.uris, s.dns, s.ips) = (vec![], vec![], vec![]);
        s.subject = Some("CN=localhost".parse().unwrap());
    };
    for (case, leaf, code, says) in [
        (
            "expired",
            issue(|s| s.validity = shifted(-60, 30)),
            "CERTIFICATE_EXPIRED",
            "expired at",
        ),
        (
            "not yet valid",
            issue(|s| s.validity = shifted(60, 60)),
            "CERTIFICATE_NOT_YET_VALID",
            "clock",
        ),
        (
            "no SAN",
            issue(nameless),
            "NO_SUBJECT_ALT_NAME",
            "common name",
        ),
        (
            "another name",
            issue(|s| s.dns = vec!["elsewhere.test".to_owned()]),
            "WRONG_SERVER",
            "elsewhere.test",
        ),
        (
            "another CA",
            stranger.issue(&spec("echo")).unwrap(),
            "UNKNOWN_ISSUER",
            "stranger",
        ),
        (
            "a client's",
            issue(|s| s.purposes = vec![Purpose::Client]),
            "WRONG_PURPOSE",
            "serverAuth",
        ),
        (
            "a CA's",
            issue(|s| s.authority = true),
            "LEAF_IS_CA",
            "CA:TRUE",
        ),
        ("revoked", revoked, "CERTIFICATE_REVOKED", "revoked"),
        (
            "no intermediate",
            no_intermediate,
            "INTERMEDIATE_MISSING",
            "test issuing",
        ),
        (
            "the wrong order",
            reversed,
            "CHAIN_OUT_OF_ORDER",
            "certificate 1",
        ),
    ] {
        let at = local(showing(&leaf).await);
        expect(case, &at, &orders, &[], code, "the_servers", says).await;
    }
    let at = local(showing(&good).await);
    let id = ["--server-id", "spiffe://acme.test/other"];
    expect(
        "another ID",
        &at,
        &orders,
        &id,
        "WRONG_SERVER",
        "the_servers",
        "acme.test/other",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_files_cannot_be_used() {
    let pki = Pki::new();
    // Nobody is asked before our own files are in order.
    let at = "localhost:1";
    let write = |name: &str, file: &str, content: &str| {
        fs::write(pki.dir(name).join(file), content).unwrap()
    };
    let read = |name: &str, file: &str| fs::read_to_string(pki.dir(name).join(file)).unwrap();

    fs::remove_file(pki.dir("billing").join("tls.key")).unwrap();
    write("catalog", "tls.key", &read("orders", "tls.key"));
    let (leaf, issuer) = {
        let chain = read("auditor", "tls.crt");
        let second = chain.rfind("-----BEGIN").unwrap();
        (chain[..second].to_owned(), chain[second..].to_owned())
    };
    write("auditor", "tls.crt", &(issuer + &leaf));
    let encrypted = read("marketing", "tls.key").replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    write("marketing", "tls.key", &encrypted);
    write("mainframe", "ca.crt", "");
    let older = pki.crl(1, &[]);
    write("orders", "crl.pem", &(older.clone() + &older));
    for (case, name, code, says) in [
        (
            "a file is missing",
            "billing",
            "CREDENTIALS_UNREADABLE",
            "tls.key",
        ),
        ("another key", "catalog", "KEY_MISMATCH", "tls.key"),
        (
            "the wrong order",
            "auditor",
            "CHAIN_OUT_OF_ORDER",
            "tls.crt",
        ),
        (
            "an encrypted key",
            "marketing",
            "KEY_ENCRYPTED",
            "openssl pkey",
        ),
        ("no root", "mainframe", "CREDENTIALS_EMPTY", "ca.crt"),
        ("a list twice", "orders", "CRL_DUPLICATE", "crl.pem"),
    ] {
        expect(case, at, &pki.dir(name), &[], code, "ours", says).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_list_revokes_our_certificate_or_the_ca_above_it() {
    let pki = Pki::new();
    let leaf = pki.issue("orders", &spec("orders"));
    pki.issue("billing", &spec("billing"));
    let issuing = Certificate::from_der(leaf.chain.last().unwrap()).unwrap();
    let now = OffsetDateTime::now_utc();
    let (begin, end) = (now - Duration::minutes(1), now + Duration::hours(1));
    let revoked = Revocation {
        serial: issuing.serial,
        at: begin,
    };
    let of_the_root = pki.root.crl(1, &[revoked], begin, end).unwrap();
    pki.put("orders", "crl.pem", pki.crl(1, &[&leaf]));
    pki.put("billing", "crl.pem", of_the_root);
    for (name, says) in [("orders", "revoked"), ("billing", "test issuing")] {
        let code = "CERTIFICATE_REVOKED";
        expect(name, "localhost:1", &pki.dir(name), &[], code, "ours", says).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_us() {
    let pki = Pki::new();
    let revoked = pki.issue("revoked", &spec("orders"));
    pki.put("echo", "crl.pem", pki.crl(1, &[&revoked]));
    pki.issue(
        "expired",
        &changed("orders", |s| s.validity = shifted(-60, 30)),
    );
    pki.issue(
        "a-server",
        &changed("orders", |s| s.purposes = vec![Purpose::Server]),
    );
    let mut short = pki.issuing.issue(&spec("orders")).unwrap();
    short
        .chain_pem
        .truncate(short.chain_pem.rfind("-----BEGIN").unwrap());
    pki.install("no-intermediate", &short);
    let stranger = Authority::root("stranger", hour()).unwrap();
    pki.install("stranger", &stranger.issue(&spec("orders")).unwrap());
    let server = Server::start(&pki, &[]);
    let at = local(server.address);
    for (case, code, says) in [
        ("revoked", "REFUSED_BY_PEER", "44 CertificateRevoked"),
        ("expired", "CERTIFICATE_EXPIRED", "expired at"),
        ("a-server", "WRONG_PURPOSE", "clientAuth"),
        ("stranger", "REFUSED_BY_PEER", "stranger"),
        ("no-intermediate", "INTERMEDIATE_MISSING", "test issuing"),
    ] {
        expect(case, &at, &pki.dir(case), &[], code, "ours", says).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_differ() {
    let pki = Pki::new();
    let leaf = pki.issuing.issue(&spec("echo")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pki.root.certificate().clone()).unwrap();
    let today = WebPkiClientVerifier::builder(roots.into()).build().unwrap();
    let tomorrow = Arc::new(Tomorrow(today));
    let at = tls_server(leaf.chain, &leaf.key_pem, &[b"h2"], Some(tomorrow)).await;
    let orders = pki.dir("orders");
    expect(
        "it calls us expired",
        &local(at),
        &orders,
        &[],
        "CLOCK_SKEW",
        "between",
        "by our clock",
    )
    .await;

    let at = answering(
        &pki,
        &[0, 0, 0, 0, 2, 0x08, 1],
        Some("Sun, 01 Nov 2026 08:49:37 GMT"),
    )
    .await;
    expect(
        "its date is another",
        &local(at),
        &orders,
        &[],
        "CLOCK_SKEW",
        "between",
        "behind ours",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_but_for_the_answer() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let at = local(server.address);
    let (orders, marketing) = (pki.dir("orders"), pki.dir("marketing"));
    let get = ["--method", "/countersign.test.v1.EchoService/Echo"];
    let collect = ["--method", "/countersign.test.v1.EchoService/Collect"];
    let ours = ["--server-id", "spiffe://acme.test/echo"];
    expect(
        "healthy",
        &at,
        &orders,
        &[],
        "HEALTHY",
        "nobodys",
        "serving",
    )
    .await;
    expect(
        "healthy by its ID",
        &at,
        &orders,
        &ours,
        "HEALTHY",
        "nobodys",
        "acme.test/echo",
    )
    .await;
    expect(
        "allowed",
        &at,
        &orders,
        &get,
        "HEALTHY",
        "nobodys",
        "we may call",
    )
    .await;
    expect(
        "denied",
        &at,
        &marketing,
        &[],
        "POLICY_DENIED",
        "the_policys",
        "decision",
    )
    .await;
    expect(
        "one denied",
        &at,
        &orders,
        &collect,
        "POLICY_DENIED",
        "the_policys",
        "Collect",
    )
    .await;

    let draining = answering(&pki, &[0, 0, 0, 0, 2, 0x08, 2], None).await;
    expect(
        "draining",
        &local(draining),
        &orders,
        &[],
        "NOT_SERVING",
        "the_servers",
        "NotServing",
    )
    .await;
}

#[test]
fn what_is_no_address_is_a_usage_error() {
    for args in [
        &["doctor"][..],
        &["doctor", "http://x:1"],
        &["doctor", "x:1", "--method", "GetItem"],
    ] {
        let output = crate::world::run("countersign", args);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
    }
}
