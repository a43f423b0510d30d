//! Requests that are no gRPC calls: what a browser sends for a page, and heads that HTTP/2 does not allow. Neither the
//! policy nor a handler sees one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::mpsc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use prost::Message as _;
use test_contract::v1::{EchoRequest, RecordRequest};
use tonic::Code;

use crate::chromium::{self, Chromium};
use crate::raw;
use crate::scrape::Scrape;
use crate::world::{Ending, PATIENCE, Pki, Server};

const RECORD: &str = "/countersign.test.v1.EchoService/Record";
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// What came back.
#[derive(Debug)]
struct Answer {
    http: StatusCode,
    grpc: Option<String>,
    allow: Option<String>,
}

/// A text to record, with the prefix of a gRPC message.
fn text() -> Vec<u8> {
    let text = "hello".to_owned();
    let message = RecordRequest { text }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message].concat()
}

fn record(address: SocketAddr) -> http::request::Builder {
    Request::post(format!("https://localhost:{}{RECORD}", address.port())).header("te", "trailers")
}

/// Sends a request as orders, which may record.
async fn ask(pki: &Pki, address: SocketAddr, request: Request<()>, body: Vec<u8>) -> Answer {
    let tls = raw::handshake(pki, "orders", address, &[b"h2"])
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    // Whoever refuses need not read it.
    stream.send_data(Bytes::from(body), true).ok();
    let response = response.await.unwrap();
    let header = |headers: &http::HeaderMap, name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let (http, headers) = (response.status(), response.headers().clone());
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        if data.is_err() {
            break;
        }
    }
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    connection.abort();
    Answer {
        http,
        grpc: header(&headers, "grpc-status").or_else(|| header(&trailers, "grpc-status")),
        allow: header(&headers, "allow"),
    }
}

async fn recorded(pki: &Pki, address: SocketAddr) -> u64 {
    let mut auditor = pki.client("auditor", address);
    let answer = auditor.echo(EchoRequest::default()).await.unwrap();
    answer.into_inner().recorded
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_post_of_grpc_with_protobuf_reaches_the_policy() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let address = server.address;

    for method in ["GET", "PUT", "OPTIONS", "HEAD", "DELETE", "PATCH", "post"] {
        let mut request = record(address).header(GRPC.0, GRPC.1).body(()).unwrap();
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = ask(&pki, address, request, text()).await;
        assert_eq!(answer.http, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.allow.as_deref(), Some("POST"), "{method}");
        assert_eq!(answer.grpc, None, "{method}");
    }
    let types: [&[&str]; 17] = [
        &["text/plain"],
        &[],
        &[""],
        &["text/plain;charset=UTF-8"],
        &["text/plain; application/grpc"],
        &["application/x-www-form-urlencoded"],
        &["multipart/form-data; boundary=x"],
        &["application/json"],
        &["application/grpc-web"],
        &["application/grpc-web+proto"],
        &["application/grpc-web-text"],
        &["application/grpcfoo"],
        &["application/grpc+json"],
        &["application/grpc, text/plain"],
        &["application/grpc", "application/grpc"],
        &["application/grpc", "text/plain"],
        &["text/plain", "application/grpc"],
    ];
    for types in types {
        let mut request = record(address);
        for value in types {
            request = request.header("content-type", *value);
        }
        let request = request.body(()).unwrap();
        let answer = ask(&pki, address, request, text()).await;
        assert_eq!(answer.http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{types:?}");
        assert_eq!(answer.grpc, None, "{types:?}");
    }
    assert_eq!(recorded(&pki, address).await, 0);

    let line = server.log.wait(|line| line["code"] == "METHOD_NOT_ALLOWED");
    assert_eq!(line["peer.identity"], "spiffe://acme.test/orders");
    let line = server
        .log
        .wait(|line| line["http.request.header.content_type"] == "text/plain");
    assert_eq!(line["code"], "CONTENT_TYPE_UNSUPPORTED");
    let scrape = Scrape::of(server.admin);
    let refused = |code| scrape.sum("rpc_server_not_calls_total", &[("code", code)]);
    assert_eq!(refused("CONTENT_TYPE_UNSUPPORTED"), 17.0);
    assert_eq!(refused("METHOD_NOT_ALLOWED"), 7.0);
    // Not one was decided: this is the look at what came of them.
    assert_eq!(scrape.sum("authz_decisions_total", &[]), 1.0);

    let types = [
        "application/grpc",
        "application/grpc+proto",
        "APPLICATION/gRPC+Proto",
        "application/grpc;x=y",
        "application/grpc+proto ; x=y",
    ];
    for good in types {
        let request = record(address).header("content-type", good);
        let answer = ask(&pki, address, request.body(()).unwrap(), text()).await;
        assert_eq!(answer.http, StatusCode::OK, "{good}");
        assert_eq!(answer.grpc.as_deref(), Some("0"), "{good}");
    }
    assert_eq!(recorded(&pki, address).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_http_2_does_not_allow_reaches_nothing() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let address = server.address;

    let host = format!("localhost:{}", address.port());
    let with_user = format!("orders@{host}");
    for (name, value, code) in [
        ("host", "other.test", "AUTHORITY_MALFORMED"),
        ("host", "localhost", "AUTHORITY_MALFORMED"),
        ("host", &with_user, "AUTHORITY_MALFORMED"),
        ("x-tenant", " bad", "HEADER_MALFORMED"),
        ("x-tenant", "\tbad", "HEADER_MALFORMED"),
        ("x-tenant", "bad ", "HEADER_MALFORMED"),
        ("x-tenant", "bad\t", "HEADER_MALFORMED"),
    ] {
        let request = record(address).header(GRPC.0, GRPC.1).header(name, value);
        let answer = ask(&pki, address, request.body(()).unwrap(), text()).await;
        assert_eq!(answer.http, StatusCode::BAD_REQUEST, "{name}: {value:?}");
        server.log.wait(|line| line["code"] == code);
    }
    for (uri, code) in [
        (format!("ftp://{host}{RECORD}"), "SCHEME_UNSUPPORTED"),
        (
            format!("https://{with_user}{RECORD}"),
            "AUTHORITY_MALFORMED",
        ),
        (format!("https://a:b@{host}{RECORD}"), "AUTHORITY_MALFORMED"),
    ] {
        let request = Request::post(&uri).header(GRPC.0, GRPC.1);
        let answer = ask(&pki, address, request.body(()).unwrap(), text()).await;
        assert_eq!(answer.http, StatusCode::BAD_REQUEST, "{uri}");
        server.log.wait(|line| line["code"] == code);
    }
    assert_eq!(recorded(&pki, address).await, 0);

    let same = record(address).header(GRPC.0, GRPC.1).header("host", &host);
    let answer = ask(&pki, address, same.body(()).unwrap(), text()).await;
    assert_eq!(answer.grpc.as_deref(), Some("0"));
    assert_eq!(recorded(&pki, address).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_too_much_or_too_little_in_it_runs_nothing() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let address = server.address;

    let large = [&[0, 0, 0, 0x80, 0][..], &[0; 0x8000]].concat();
    let long = "x".repeat(17_000);
    for (what, metadata, body, code) in [
        (
            "two messages",
            "",
            [text(), text()].concat(),
            Code::Unimplemented,
        ),
        (
            "half a second message",
            "",
            [text(), vec![0]].concat(),
            Code::Unimplemented,
        ),
        ("no message", "", Vec::new(), Code::Unimplemented),
        ("a large message", "", large, Code::ResourceExhausted),
        ("large metadata", &*long, text(), Code::ResourceExhausted),
    ] {
        let request = record(address).header(GRPC.0, GRPC.1).header("x", metadata);
        let answer = ask(&pki, address, request.body(()).unwrap(), body).await;
        let expected = i32::from(code).to_string();
        assert_eq!(answer.http, StatusCode::OK, "{what}");
        assert_eq!(answer.grpc, Some(expected), "{what}");
    }
    assert_eq!(recorded(&pki, address).await, 0);
    let scrape = Scrape::of(server.admin);
    let reason = [("reason", "METADATA_TOO_LARGE")];
    assert_eq!(scrape.sum("rpc_server_shed_total", &reason), 1.0);
    for code in ["UNIMPLEMENTED", "RESOURCE_EXHAUSTED"] {
        server.log.wait(|line| {
            line["rpc.status_code"] == code && line["peer.identity"] == "spiffe://acme.test/orders"
        });
    }
}

/// A page of another origin, and what its script said that came of it.
struct WebPage {
    address: SocketAddr,
    told: mpsc::Receiver<String>,
}

/// Serves `html` to whoever asks, and passes on what is said to `/told?`.
fn page(html: String) -> WebPage {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{html}",
                html.len()
            );
            stream.write_all(answer.as_bytes()).ok();
            if let Some(said) = path.strip_prefix("/told?")
                && tell.send(said.to_owned()).is_err()
            {
                return;
            }
        }
    });
    WebPage { address, told }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_makes_no_call_with_the_certificate_in_its_readers_browser() {
    if !chromium::is_here("no web page tries to make a call") {
        return;
    }
    let pki = chromium::pki();
    let server = Server::start(&pki, &[]);
    let address = server.address;
    let Some(chromium) = Chromium::new(&pki, "orders", address).await else {
        return;
    };
    let html = format!(
        "<!doctype html><title>evil</title><script>
        const url = 'https://localhost:{}{RECORD}', bytes = new Uint8Array({:?});
        const send = (mode, headers) => fetch(url, {{method: 'POST', mode, headers, credentials: 'include',
            body: new Blob([bytes])}}).then(answer => answer.type, error => 'failed');
        (async () => {{
            const plain = await send('no-cors', {{}});
            const grpc = await send('no-cors', {{'content-type': 'application/grpc'}});
            const asked = await send('cors', {{'content-type': 'application/grpc'}});
            await fetch(`/told?${{plain}},${{grpc}},${{asked}}`);
        }})();
        </script>",
        address.port(),
        text()
    );
    let page = page(html);
    let running = chromium
        .command(&format!("http://{}/", page.address))
        .arg("--remote-debugging-port=0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let running = Ending(running.unwrap());
    let told = tokio::task::spawn_blocking(move || page.told.recv_timeout(2 * PATIENCE));
    let told = told.await.unwrap().unwrap();
    drop(running);
    // The page learns nothing of the first two, which were sent, and the third waits for a leave that nobody gives.
    assert_eq!(told, "opaque,opaque,failed");
    assert_eq!(recorded(&pki, address).await, 0);
    let line = server
        .log
        .wait(|line| line["code"] == "CONTENT_TYPE_UNSUPPORTED");
    assert_eq!(line["peer.identity"], "spiffe://acme.test/orders");
}
