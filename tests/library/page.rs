//! The page for browsers: off unless it is asked for, authorized as a call is, and no way into the service.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use crate::chromium::{self, Chromium};
use crate::raw;
use crate::scrape::Scrape;
use crate::world::{Pki, Server, eventually_async, repository};

const PAGE: &str = "/countersign.Page/Show";

/// The shipped policy, which lets `names` see the page too.
fn policy(pki: &Pki, names: &[&str]) -> PathBuf {
    let text = fs::read_to_string(repository().join("tests/library/policy.json")).unwrap();
    let mut policy: Value = serde_json::from_str(&text).unwrap();
    let principals: Vec<_> = names
        .iter()
        .map(|name| format!("spiffe://acme.test/{name}"))
        .collect();
    let rule = json!({"name": "see-the-page", "source": {"principals": principals}, "request": {"paths": [PAGE]}});
    if !names.is_empty() {
        policy["allow_rules"].as_array_mut().unwrap().push(rule);
    }
    let file = pki.dir.path().join("policy.json");
    let next = file.with_extension("next");
    fs::write(&next, policy.to_string()).unwrap();
    fs::rename(next, &file).unwrap();
    file
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    trailers: HeaderMap,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(pki: &Pki, name: &str, server: &Server, request: http::request::Builder) -> Answer {
    let tls = raw::handshake(pki, name, server.address, &[b"h2"])
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (response, _sent) = client
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data: Bytes = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend(data);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    connection.abort();
    Answer {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(text).unwrap(),
        trailers,
    }
}

fn get(server: &Server, path: &str) -> http::request::Builder {
    Request::get(format!("https://localhost:{}{path}", server.address.port()))
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_page_unless_it_is_asked_for() {
    let pki = Pki::new();
    // The policy may allow it all the same.
    let policy = policy(&pki, &["orders"]);
    let server = Server::start(&pki, &["--policy", policy.to_str().unwrap()]);
    let answer = ask(&pki, "orders", &server, get(&server, PAGE)).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.text, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_who_its_reader_is_and_what_the_policy_allows() {
    let pki = Pki::new();
    let file = policy(&pki, &["orders"]);
    let file = file.to_str().unwrap();
    let server = Server::start(&pki, &["--browser-page", "--policy", file]);
    let answer = ask(&pki, "orders", &server, get(&server, PAGE)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let csp = answer.header("content-security-policy");
    for directive in [
        "default-src 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    ] {
        assert!(
            csp.split("; ").any(|it| it == directive),
            "{directive}: {csp}"
        );
    }
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("set-cookie"), "");
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(answer.trailers["grpc-status"], "0");
    let text = &answer.text;
    assert!(
        text.contains("you are <strong>spiffe://acme.test/orders</strong>"),
        "{text}"
    );
    for (path, verdict) in [
        ("/countersign.test.v1.EchoService/Echo", "allow"),
        ("/countersign.test.v1.EchoService/Record", "allow"),
        ("/countersign.test.v1.EchoService/Collect", "deny"),
        (PAGE, "allow"),
    ] {
        let row = format!("<tr><td>{path}</td><td>{verdict}</td></tr>");
        assert!(text.contains(&row), "{row}: {text}");
    }
    assert!(
        text.contains("<th align=left>days left</th><td>0.04</td>"),
        "{text}"
    );
    for nothing in ["<script", "<form", "<a ", "<img", "http-equiv"] {
        assert!(!text.contains(nothing), "{nothing}: {text}");
    }
    // To ask what the policy allows is no call: but for the page itself, nothing was decided.
    let scrape = Scrape::of(server.admin);
    assert_eq!(scrape.sum("authz_decisions_total", &[]), 1.0);

    // Nothing that a request says makes its reader another.
    let claims = get(&server, PAGE)
        .header("x-forwarded-client-cert", "URI=spiffe://acme.test/catalog")
        .header("cookie", "user=catalog");
    let answer = ask(&pki, "orders", &server, claims).await;
    assert!(
        answer
            .text
            .contains("<strong>spiffe://acme.test/orders</strong>")
    );

    policy(&pki, &[]);
    let denied = eventually_async("the new policy is in force", || async {
        let answer = ask(&pki, "orders", &server, get(&server, PAGE)).await;
        (answer.status == StatusCode::FORBIDDEN).then_some(answer)
    });
    assert!(denied.await.text.contains("<h1>Refused</h1>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_denied_as_a_call_is_and_opens_nothing_else() {
    let pki = Pki::new();
    let file = policy(&pki, &["orders"]);
    let server = Server::start(
        &pki,
        &["--browser-page", "--policy", file.to_str().unwrap()],
    );
    let denied = ask(&pki, "marketing", &server, get(&server, PAGE)).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert_eq!(denied.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(denied.trailers["grpc-status"], "7");
    assert!(!denied.text.contains("EchoService"), "{}", denied.text);
    let line = server.log.wait(|line| line["reason"] == "POLICY_DENIED");
    assert_eq!(line["principal"], "spiffe://acme.test/marketing");
    assert_eq!(line["method"], PAGE);
    server.stdout.wait(|line| line.to_string().contains(PAGE));

    let url = |path: &str| format!("https://localhost:{}{path}", server.address.port());
    let echo = "/countersign.test.v1.EchoService/Echo";
    let others = [
        (get(&server, echo), StatusCode::METHOD_NOT_ALLOWED),
        (get(&server, "/"), StatusCode::METHOD_NOT_ALLOWED),
        (
            get(&server, &format!("{PAGE}?x")),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (Request::head(url(PAGE)), StatusCode::METHOD_NOT_ALLOWED),
        (Request::options(url(PAGE)), StatusCode::METHOD_NOT_ALLOWED),
        (
            get(&server, PAGE).header("sec-fetch-dest", "script"),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (Request::post(url(PAGE)), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            Request::post(url(echo)).header("content-type", "text/plain"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
    ];
    for (number, (request, expected)) in others.into_iter().enumerate() {
        let answer = ask(&pki, "orders", &server, request).await;
        assert_eq!((answer.status, &*answer.text), (expected, ""), "{number}");
    }
    let call = Request::post(url(PAGE)).header("content-type", "application/grpc");
    let answer = ask(&pki, "orders", &server, call).await;
    assert_eq!(answer.header("grpc-status"), "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_shows_the_page_to_the_holder_of_a_certificate() {
    if !chromium::is_here("no browser shows the page") {
        return;
    }
    let pki = chromium::pki();
    let file = policy(&pki, &["orders"]);
    let server = Server::start(
        &pki,
        &["--browser-page", "--policy", file.to_str().unwrap()],
    );
    for (name, expected) in [
        ("orders", "<strong>spiffe://acme.test/orders</strong>"),
        ("marketing", "<h1>Refused</h1>"),
    ] {
        let Some(chromium) = Chromium::new(&pki, name, server.address).await else {
            return;
        };
        let mut shown = chromium.command(&format!(
            "https://localhost:{}{PAGE}",
            server.address.port()
        ));
        shown.args(["--dump-dom", "--timeout=20000"]);
        // For whoever wants to look at it.
        if let Some(dir) = std::env::var_os("COUNTERSIGN_SCREENSHOTS") {
            let file = PathBuf::from(dir).join(format!("{name}.png"));
            shown.arg(format!("--screenshot={}", file.display()));
        }
        let shown = shown.stderr(Stdio::piped());
        let shown = tokio::task::block_in_place(|| shown.output().unwrap());
        let dom = String::from_utf8_lossy(&shown.stdout);
        assert!(dom.contains(expected), "{name}: {shown:?}");
    }
    // The browser asks for nothing else, such as an icon.
    assert_eq!(
        server
            .log
            .count(|line| line["code"] == "METHOD_NOT_ALLOWED"),
        0
    );
}
