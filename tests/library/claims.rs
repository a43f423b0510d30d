//! What mutual TLS is said to prevent (https://www.cloudflare.com/learning/access-management/what-is-mutual-tls/), each
//! tried: on-path attacks, spoofing, credential stuffing, brute force, phishing, and malicious API requests. Who refuses,
//! and why, is part of each.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cli::pki::{Authority, LeafSpec};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use test_contract::v1::{EchoRequest, RecordRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::raw;
use crate::scrape::Scrape;
use crate::world::{Pki, Server, eventually_async, hour, spec};

/// What a call says.
const SECRET: &str = "COVETED-1";

fn echo() -> Request<EchoRequest> {
    let mut request = Request::new(EchoRequest {
        text: SECRET.to_owned(),
    });
    request.set_timeout(Duration::from_secs(5));
    request
}

fn record() -> Request<RecordRequest> {
    let text = SECRET.to_owned();
    let mut request = Request::new(RecordRequest { text });
    request.set_timeout(Duration::from_secs(5));
    request
}

/// How many calls of `Record` have run.
async fn recorded(pki: &Pki, server: &Server) -> u64 {
    let mut auditor = pki.client("auditor", server.address);
    auditor.echo(echo()).await.unwrap().into_inner().recorded
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("none: {status}"), |info| info.reason)
}

/// Somebody between a client and the server, who sees every byte, keeps those of the client, and may change them.
struct Between {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<u8>>>,
    changes: Arc<AtomicBool>,
}

impl Between {
    async fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let between = Self {
            address: listener.local_addr().unwrap(),
            kept: Arc::default(),
            changes: Arc::default(),
        };
        let (kept, changes) = (between.kept.clone(), between.changes.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (kept, changes) = (kept.clone(), changes.clone());
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                        kept.lock().unwrap().extend(&bytes[..read]);
                        if changes.load(Ordering::Relaxed) {
                            bytes[read - 1] ^= 1;
                        }
                        if to_server.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
                tokio::spawn(async move {
                    // Either side may close.
                    tokio::io::copy(&mut from_server, &mut to_client).await.ok();
                });
            }
        });
        between
    }

    fn saw(&self, text: &str) -> bool {
        let kept = self.kept.lock().unwrap();
        kept.windows(text.len())
            .any(|window| window == text.as_bytes())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_path_nothing_is_read_changed_or_replayed() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let between = Between::new(server.address).await;
    let mut orders = pki.client("orders", between.address);
    orders.record(record()).await.unwrap();
    assert_eq!(recorded(&pki, &server).await, 1);
    // Neither what is asked, nor who asks: TLS 1.3 encrypts the client's certificate too.
    assert!(!between.kept.lock().unwrap().is_empty());
    for secret in [SECRET, "EchoService", "acme.test", "spiffe"] {
        assert!(!between.saw(secret), "{secret}");
    }

    // Replayed byte by byte, it is a handshake with the random numbers of another.
    let before = server.log.count(is_handshake_failure);
    let kept = between.kept.lock().unwrap().clone();
    let mut replay = TcpStream::connect(server.address).await.unwrap();
    // The server may hang up before all of it is written.
    replay.write_all(&kept).await.ok();
    let mut answer = Vec::new();
    replay.read_to_end(&mut answer).await.ok();
    eventually_async("the server refuses the replay", || async {
        (server.log.count(is_handshake_failure) > before).then_some(())
    })
    .await;
    assert_eq!(recorded(&pki, &server).await, 1);

    // One changed bit ends the connection, and the call did not run.
    between.changes.store(true, Ordering::Relaxed);
    let failed = orders.record(record()).await.unwrap_err();
    assert_ne!(failed.code(), Code::Ok);
    assert_eq!(recorded(&pki, &server).await, 1);
}

fn is_handshake_failure(line: &serde_json::Value) -> bool {
    line["code"]
        .as_str()
        .is_some_and(|code| code.starts_with("HANDSHAKE_"))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_path_nobody_answers_in_the_servers_place() {
    let pki = Pki::new();
    // Of our own authority, and for clients and servers, but not this server.
    let other = LeafSpec {
        uris: vec!["spiffe://acme.test/other".to_owned()],
        dns: vec!["other.acme.test".to_owned()],
        ips: vec![],
        ..spec("echo")
    };
    pki.issue("other", &other);
    let other = pki.dir("other");
    let args = ["--tls-dir", other.to_str().unwrap()];
    let imposter = Server::start(&pki, &args);
    let status = pki.client("orders", imposter.address).echo(echo()).await;
    assert_eq!(reason(&status.unwrap_err()), "WRONG_SERVER");
    // It decided about nothing, since nothing came.
    let scrape = Scrape::of(imposter.admin);
    assert_eq!(scrape.sum("authz_decisions_total", &[]), 0.0);
}

/// Shows a chain, and signs with whatever key; or shows nothing.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The certificate of `shown` with the key of `signs`.
fn stolen(pki: &Pki, shown: &str, signs: &str) -> Arc<ClientConfig> {
    let chain = CertificateDer::pem_file_iter(pki.dir(shown).join("tls.crt"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.dir(signs).join("tls.key")).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let shows = Shows(Some(Arc::new(CertifiedKey::new(chain, key))));
    let mut config = ClientConfig::clone(&raw::config(pki, signs, &[b"h2"]));
    config.client_auth_cert_resolver = Arc::new(shows);
    Arc::new(config)
}

/// What the server says to the handshake of this client, which in TLS 1.3 comes after it.
async fn answer(config: Arc<ClientConfig>, address: SocketAddr) -> String {
    let mut tls = raw::handshake_with(config, address).await.unwrap();
    let mut byte = [0];
    match tls.read(&mut byte).await {
        Ok(read) => format!("{read} bytes"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spoofing_a_certificate_without_its_key_or_a_name_in_a_header_is_nobody() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    // Certificates are public; the proof is a signature over this very handshake.
    let said = answer(stolen(&pki, "orders", "marketing"), server.address).await;
    assert!(said.contains("alert"), "{said}");
    let line = server
        .log
        .wait(|line| line["message"] == "handshake refused" || is_handshake_failure(line));
    assert_eq!(line["code"], "HANDSHAKE_FAILED", "{line}");
    // The same way in with the right key.
    let said = answer(stolen(&pki, "orders", "orders"), server.address).await;
    assert_eq!(said, "1 bytes");

    let mut marketing = pki.client("marketing", server.address);
    for (name, value) in [
        ("x-forwarded-client-cert", "URI=spiffe://acme.test/orders"),
        ("ssl-client-subject-dn", "CN=orders"),
        ("client-cert", ":MIIB:"),
        ("x-spiffe-id", "spiffe://acme.test/orders"),
        ("x-forwarded-user", "orders"),
    ] {
        let mut request = echo();
        request.metadata_mut().insert(name, value.parse().unwrap());
        let refused = marketing.echo(request).await.unwrap_err();
        assert_eq!(reason(&refused), "POLICY_DENIED", "{name}");
    }
    let line = server.log.wait(|line| line["reason"] == "POLICY_DENIED");
    assert_eq!(line["principal"], "spiffe://acme.test/marketing");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_stuffing_finds_nothing_that_a_password_or_a_token_opens() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut marketing = pki.client("marketing", server.address);
    for (name, value) in [
        ("authorization", "Basic b3JkZXJzOmh1bnRlcjI="),
        (
            "authorization",
            "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmRlcnMifQ.",
        ),
        ("proxy-authorization", "Basic b3JkZXJzOmh1bnRlcjI="),
        ("cookie", "session=stolen"),
        ("x-api-key", "stolen"),
    ] {
        let mut request = echo();
        request.metadata_mut().insert(name, value.parse().unwrap());
        let refused = marketing.echo(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
        assert_eq!(reason(&refused), "POLICY_DENIED", "{name}");
    }
    // Nor is there anything else that could leak: with its certificate, orders needs none of it.
    pki.client("orders", server.address)
        .echo(echo())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn brute_force_guesses_no_key_and_locks_nobody_out() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut orders = pki.client("orders", server.address);
    // Each guess is a key and an authority that could have been ours, with the names of orders and of our issuer.
    for _ in 0..50 {
        let root = Authority::root("test root", hour()).unwrap();
        let issuing = root.issuing("test issuing", hour()).unwrap();
        pki.install("guess", &issuing.issue(&spec("orders")).unwrap());
        let said = answer(raw::config(&pki, "guess", &[b"h2"]), server.address).await;
        assert!(said.contains("alert"), "{said}");
    }
    let codes = ["UNKNOWN_ISSUER", "BAD_SIGNATURE"];
    server
        .log
        .wait(|line| codes.iter().any(|code| line["code"] == *code));
    // There is no account that failures could lock.
    orders.echo(echo()).await.unwrap();
    pki.client("orders", server.address)
        .echo(echo())
        .await
        .unwrap();
    let scrape = Scrape::of(server.admin);
    assert_eq!(
        scrape.sum("authz_decisions_total", &[("verdict", "deny")]),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn phishing_gets_no_request_and_nothing_that_could_be_used_elsewhere() {
    let pki = Pki::new();
    // A site that calls itself localhost, by an authority that we do not trust, and lets everybody in.
    let elsewhere = Authority::root("elsewhere", hour()).unwrap();
    let leaf = elsewhere.issue(&spec("echo")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.clone(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = listener.local_addr().unwrap();
    let caught = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor
            .accept(tcp)
            .await
            .map(|_| ())
            .unwrap_err()
            .to_string()
    });
    let mut request = echo();
    request
        .metadata_mut()
        .insert("x-secret", "of-orders".parse().unwrap());
    let refused = pki.client("orders", site).echo(request).await.unwrap_err();
    assert_eq!(reason(&refused), "UNKNOWN_ISSUER");
    // The victim hung up before a request, and before it showed its own certificate.
    let caught = caught.await.unwrap();
    assert!(caught.contains("UnknownCA"), "{caught}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malicious_api_requests_reach_neither_the_policy_nor_a_handler() {
    let pki = Pki::new();
    let mallory = pki.issue("mallory", &spec("orders"));
    let server = Server::start(&pki, &[]);
    let decided = || Scrape::of(server.admin).sum("authz_decisions_total", &[]);
    assert_eq!(decided(), 0.0);

    let mut nobody = ClientConfig::clone(&raw::config(&pki, "orders", &[b"h2"]));
    nobody.client_auth_cert_resolver = Arc::new(Shows(None));
    let said = answer(Arc::new(nobody), server.address).await;
    assert!(said.contains("CertificateRequired"), "{said}");
    server
        .log
        .wait(|line| line["code"] == "CERTIFICATE_MISSING");
    // Not TLS at all.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    let request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    plain.write_all(request).await.unwrap();
    let mut rest = Vec::new();
    plain.read_to_end(&mut rest).await.ok();
    assert!(!rest.starts_with(b"\0\0"), "{rest:?}");
    // One who may call, until the certificate is revoked.
    let mut mallory_client = pki.client("mallory", server.address);
    mallory_client.echo(echo()).await.unwrap();
    assert_eq!(decided(), 1.0);
    pki.put("echo", "crl.pem", pki.crl(1, &[&mallory]));
    let code = eventually_async("the revoked caller is refused", || {
        let config = raw::config(&pki, "mallory", &[b"h2"]);
        async {
            let said = answer(config, server.address).await;
            said.contains("CertificateRevoked").then_some(said)
        }
    });
    code.await;
    assert_eq!(decided(), 1.0);

    // One who may call, and asks for more than that.
    let mut auditor = pki.client("auditor", server.address);
    let refused = auditor.record(record()).await.unwrap_err();
    assert_eq!(reason(&refused), "POLICY_DENIED");
    assert_eq!(recorded(&pki, &server).await, 0);
}
