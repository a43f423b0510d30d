//! The client against servers that misbehave: how often it calls, and which cause it reports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::base::call::Deadline;
use countersign::client::{Client, ClientChannel, Connection};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::{CollectRequest, EchoRequest, RecordRequest, WatchRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_types::StatusExt;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, large_header, read,
};
use crate::load;
use crate::raw::{GOAWAY, header_block};
use crate::world::{Pki, eventually_async, spec};

const REFUSED_STREAM: &[u8] = &[0, 0, 0, 7];

/// A server that greets each connection and answers each call with the same bytes, whatever they are.
struct Script {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Script {
    /// `answer` is given the stream of the call. After an empty one, nothing more is read.
    async fn serve(
        pki: &Pki,
        greeting: Vec<u8>,
        answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let dir = pki.dir("echo");
        let chain = CertificateDer::pem_file_iter(dir.join("tls.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (calls.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, greeting) = (acceptor.clone(), greeting.clone());
                let (counted, answer) = (counted.clone(), answer.clone());
                tokio::spawn(async move {
                    // The other side may hang up at any byte.
                    play(acceptor, socket, greeting, &counted, &*answer)
                        .await
                        .ok();
                });
            }
        });
        Self { address, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn client(&self, pki: &Pki) -> Client {
        let source = mtls::Source::directory(pki.dir("orders"));
        let mut connection = Connection::new(load::target(self.address), source);
        connection.deadline = Some(DEADLINE);
        load::connect(connection)
    }
}

async fn play(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    greeting: Vec<u8>,
    calls: &AtomicUsize,
    answer: &(impl Fn(u32) -> Vec<u8> + Send + Sync),
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(socket).await?;
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    let settings = [frame(SETTINGS, 0, 0, &[]), greeting].concat();
    stream.write_all(&settings).await?;
    stream.flush().await?;
    loop {
        let (kind, id, _) = read(&mut stream).await?;
        if kind == HEADERS {
            calls.fetch_add(1, Ordering::Relaxed);
            let answer = answer(id);
            if answer.is_empty() {
                // It reads nothing more.
                return std::future::pending().await;
            }
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
    }
}

fn goaway(text: &str) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[&[0; 8], text.as_bytes()].concat())
}

fn headers(id: u32, flags: u8, fields: &[(&str, &[u8])]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, id, &header_block(fields))
}

const ANSWER: &[(&str, &[u8])] = &[(":status", b"200"), ("content-type", b"application/grpc")];

/// An answer with as many messages, each of them empty, and the status OK.
fn messages(id: u32, count: usize) -> Vec<u8> {
    let mut answer = headers(id, 0, ANSWER);
    for _ in 0..count {
        answer.extend(frame(DATA, 0, id, &[0; 5]));
    }
    answer.extend(headers(id, END_STREAM, &[("grpc-status", b"0")]));
    answer
}

fn echo(client: &Client) -> EchoServiceClient<ClientChannel> {
    EchoServiceClient::new(client.channel())
}

/// A generous one: what ends a call must not be this.
const DEADLINE: Duration = Duration::from_secs(25);

/// A call that may be repeated and one that may not, and how each failed.
async fn fail(client: &Client) -> [Status; 2] {
    let echoed = echo(client).echo(EchoRequest::default()).await;
    let recorded = echo(client).record(RecordRequest::default()).await;
    [echoed.unwrap_err(), recorded.unwrap_err()]
}

#[tokio::test]
async fn a_call_that_a_server_refuses_again_and_again_is_sent_again_once_and_then_by_policy() {
    let pki = Pki::new();
    let refuse = |id| frame(RST_STREAM, 0, id, REFUSED_STREAM);
    let server = Script::serve(&pki, Vec::new(), refuse).await;
    let mut transport = pki.client("orders", server.address);
    let refused = transport.echo(EchoRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(
        refused.message().ends_with("did not process the call"),
        "{refused}"
    );
    assert_eq!(
        server.calls(),
        2,
        "by the transport: the call, and once more"
    );
    let before = server.calls();
    let client = server.client(&pki);
    let failed = echo(&client).echo(EchoRequest::default()).await;
    assert_eq!(failed.unwrap_err().code(), Code::Unavailable);
    // Four attempts by policy, and the first of them once more.
    assert_eq!(server.calls() - before, 5);
}

#[tokio::test]
async fn a_call_that_each_connection_turns_away_by_goaway_is_sent_again_once_and_says_so() {
    let pki = Pki::new();
    let server = Script::serve(&pki, Vec::new(), |_| goaway("maintenance")).await;
    let mut transport = pki.client("orders", server.address);
    let refused = transport.echo(EchoRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(
        refused.message().contains(
            "did not process the call: the server closed the connection with GOAWAY NO_ERROR \"maintenance\""
        ),
        "{refused}"
    );
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn a_server_that_closes_each_connection_at_once_is_said_to_do_so_long_before_the_deadline() {
    let pki = Pki::new();
    let server = Script::serve(&pki, goaway("maintenance"), |_| Vec::new()).await;
    for status in fail(&server.client(&pki)).await {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(
            status
                .message()
                .contains("with GOAWAY NO_ERROR \"maintenance\""),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_call_with_one_answer_has_no_other_number_of_them() {
    let pki = Pki::new();
    let once = "the server answered a unary call with more than one message";
    let none = "the server answered a unary call with OK and without a message";
    let trailers_only = |id| {
        let fields = [ANSWER, &[("grpc-status", b"0")]].concat();
        headers(id, END_STREAM, &fields)
    };
    for (what, answer, message) in [
        (
            "two",
            Box::new(|id| messages(id, 2)) as Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
            once,
        ),
        ("three", Box::new(|id| messages(id, 3)), once),
        ("none", Box::new(|id| messages(id, 0)), none),
        ("none, and trailers alone", Box::new(trailers_only), none),
    ] {
        let server = Script::serve(&pki, Vec::new(), answer).await;
        let client = server.client(&pki);
        let one = tokio_stream::iter([CollectRequest::default()]);
        let collected = echo(&client).collect(one).await.unwrap_err();
        let request = HealthCheckRequest::default();
        let health = client.health().check(request).await.unwrap_err();
        for status in fail(&client).await.into_iter().chain([collected, health]) {
            assert_eq!(
                (status.code(), status.message()),
                (Code::Unimplemented, message),
                "{what}"
            );
        }
        assert_eq!(server.calls(), 4, "{what}: sent again");
    }
}

#[tokio::test]
async fn what_is_no_grpc_answer_is_called_one_by_its_http_status_with_a_body_or_without() {
    let pki = Pki::new();
    let cases = [
        ("400", "text/plain", Code::Internal),
        ("401", "text/html", Code::Unauthenticated),
        ("403", "text/html; charset=utf-8", Code::PermissionDenied),
        ("404", "application/json", Code::Unimplemented),
        ("429", "text/plain", Code::Unavailable),
        ("502", "text/html", Code::Unavailable),
        ("503", "text/plain", Code::Unavailable),
        ("504", "", Code::Unavailable),
        ("200", "text/html", Code::Unknown),
        ("200", "application/grpc-web", Code::Unknown),
        ("200", "", Code::Unknown),
        ("431", "text/plain", Code::Internal),
        ("500", "application/json", Code::Unknown),
        ("302", "text/html", Code::Unknown),
        // Of gRPC by its type alone.
        ("503", "application/grpc", Code::Unavailable),
    ];
    let bodies = [&b""[..], b"<html>Bad Gateway</html>"];
    let cases: Vec<_> = cases
        .into_iter()
        .flat_map(|case| bodies.map(|body| (case, body)))
        .collect();
    let (asked, nth) = (cases.clone(), AtomicUsize::new(0));
    let server = Script::serve(&pki, Vec::new(), move |id| {
        let ((status, content_type, _), body) = asked[nth.fetch_add(1, Ordering::Relaxed)];
        let fields: &[(&str, &[u8])] = &[
            (":status", status.as_bytes()),
            ("content-type", content_type.as_bytes()),
        ];
        let some = if content_type.is_empty() { 1 } else { 2 };
        let ends = if body.is_empty() { END_STREAM } else { 0 };
        let mut answer = headers(id, ends, &fields[..some]);
        if !body.is_empty() {
            answer.extend(frame(DATA, END_STREAM, id, body));
        }
        answer
    })
    .await;
    let mut transport = pki.client("orders", server.address);
    for ((status, content_type, code), body) in cases {
        let ended = transport.echo(EchoRequest::default()).await.unwrap_err();
        let case = format!("{status} {content_type} with {} bytes: {ended}", body.len());
        assert_eq!(ended.code(), code, "{case}");
        let says = [
            format!("the response from {} is not gRPC", server.address),
            format!("HTTP status {status} with "),
            content_type.to_owned(),
        ];
        assert!(says.iter().all(|it| ended.message().contains(it)), "{case}");
        let reason = ended.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("NOT_GRPC"), "{case}");
    }
}

#[tokio::test]
async fn a_proxy_that_has_no_server_behind_it_is_asked_again() {
    let pki = Pki::new();
    let server = Script::serve(&pki, Vec::new(), |id| {
        let fields: &[(&str, &[u8])] = &[(":status", b"503"), ("content-type", b"text/plain")];
        headers(id, END_STREAM, fields)
    })
    .await;
    let client = server.client(&pki);
    let ended = echo(&client).echo(EchoRequest::default()).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn an_answer_with_more_metadata_than_we_take_is_not_blamed_on_our_calls() {
    let pki = Pki::new();
    for (what, size, in_trailers) in [
        ("headers over the limit", 20_000, false),
        ("headers far over it", 400_000, false),
        ("trailers far over it", 400_000, true),
    ] {
        let server = Script::serve(&pki, Vec::new(), move |id| {
            let mut answer = Vec::new();
            let (mut block, flags) = if in_trailers {
                answer.extend(headers(id, 0, ANSWER));
                (header_block(&[("grpc-status", b"0")]), END_STREAM)
            } else {
                (header_block(ANSWER), 0)
            };
            block.extend(large_header(size));
            let mut pieces = block.chunks(16_384).peekable();
            let mut kind = HEADERS;
            while let Some(piece) = pieces.next() {
                let flags = if kind == HEADERS { flags } else { 0 };
                let last = if pieces.peek().is_none() {
                    END_HEADERS
                } else {
                    0
                };
                answer.extend(frame(kind, flags | last, id, piece));
                kind = CONTINUATION;
            }
            answer
        })
        .await;
        let [got, _] = fail(&server.client(&pki)).await;
        let message = got.message();
        assert!(
            message.contains("16384 bytes that this client accepts"),
            "{what}: {got}"
        );
        assert!(!message.contains("fewer calls"), "{what}: {got}");
        assert!(
            matches!(got.code(), Code::ResourceExhausted | Code::Internal),
            "{what}: {got}"
        );
    }
}

#[tokio::test]
async fn trailers_without_a_status_may_be_more_than_we_take() {
    let pki = Pki::new();
    for (what, size) in [("trailers over the limit", 20_000), ("no status", 200)] {
        let server = Script::serve(&pki, Vec::new(), move |id| {
            let mut answer = headers(id, 0, ANSWER);
            let block = large_header(size);
            let (first, rest) = block.split_at(block.len() / 2);
            answer.extend(frame(HEADERS, END_STREAM, id, first));
            answer.extend(frame(CONTINUATION, END_HEADERS, id, rest));
            answer
        })
        .await;
        for got in fail(&server.client(&pki)).await {
            assert_eq!(got.code(), Code::Unknown, "{what}: {got}");
            assert!(
                got.message()
                    .contains("have no grpc-status, or more than the 16384 bytes"),
                "{what}: {got}"
            );
            assert!(got.metadata().contains_key("x-request-id"), "{what}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_without_an_error_is_not_said_to_be_refused() {
    let pki = Pki::new();
    let reset = |id: u32| frame(RST_STREAM, 0, id, &0_u32.to_be_bytes());
    let server = Script::serve(&pki, Vec::new(), reset).await;
    for got in fail(&server.client(&pki)).await {
        assert_eq!(got.code(), Code::Internal, "{got}");
        assert!(got.message().contains("reset the stream"), "{got}");
    }
    assert_eq!(server.calls(), 2, "sent again");
}

#[tokio::test]
async fn a_call_without_a_deadline_does_not_take_interim_answers_for_ever() {
    let pki = Pki::new();
    let flood = |id| headers(id, 0, &[(":status", b"103")]).repeat(100);
    let server = Script::serve(&pki, Vec::new(), flood).await;
    let client = server.client(&pki);
    let ended = echo(&client).watch(WatchRequest::default()).await;
    let status = ended.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(
        status
            .message()
            .contains("more than 10 interim responses (1xx) to one call"),
        "{status}"
    );
    // A few of them are a proxy's.
    let some = |id| {
        let mut answer = headers(id, 0, &[(":status", b"103")]).repeat(3);
        answer.extend(headers(id, 0, ANSWER));
        answer.extend(headers(id, END_STREAM, &[("grpc-status", b"5")]));
        answer
    };
    let server = Script::serve(&pki, Vec::new(), some).await;
    let mut transport = pki.client("orders", server.address);
    let ended = transport.echo(EchoRequest::default()).await.unwrap_err();
    assert_eq!(ended.code(), Code::NotFound, "{ended}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_nothing_any_more_is_given_up() {
    /// More than the buffers of two sockets hold.
    const LARGE: usize = 32 << 20;
    let pki = Pki::new();
    // Windows of two gigabytes, so that only the socket holds the message up (RFC 9113 §6.5.2, §6.9.1).
    let windows = [
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()),
    ];
    let server = Script::serve(&pki, windows.concat(), |_| Vec::new()).await;
    let source = mtls::Source::directory(pki.dir("orders"));
    let mut connection = Connection::new(load::target(server.address), source);
    connection.deadline = Some(Duration::from_secs(60));
    // No PING finds it first.
    connection.options.keepalive_interval = Duration::from_secs(3600);
    connection.options.keepalive_timeout = Duration::from_millis(500);
    let client = load::connect(connection);
    let text = "x".repeat(LARGE);
    let lost = echo(&client)
        .record(RecordRequest { text })
        .await
        .unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    assert!(
        lost.message().contains("was lost during the call"),
        "{lost:?}"
    );
}

#[tokio::test]
async fn a_call_to_a_revoked_server_fails_at_once_although_the_server_sends_nothing() {
    let pki = Pki::new();
    let revoked = pki.issue("echo", &spec("echo"));
    pki.put("orders", "crl.pem", pki.crl(1, &[]));
    let server = Script::serve(&pki, Vec::new(), |_| Vec::new()).await;
    let client = server.client(&pki);
    let mut silent = echo(&client);
    let call = tokio::spawn(async move { silent.record(RecordRequest::default()).await });
    let has_it = async || (server.calls() == 1).then_some(());
    eventually_async("the server has the call", has_it).await;

    pki.put("orders", "crl.pem", pki.crl(2, &[&revoked]));
    let lost = call.await.unwrap().unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    let details = lost.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "CERTIFICATE_REVOKED");
}

#[tokio::test]
async fn a_deadline_that_passes_before_there_is_a_connection_says_why_there_is_none() {
    let pki = Pki::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let source = mtls::Source::directory(pki.dir("orders"));
    let mut connection = Connection::new(load::target(address), source);
    connection.deadline = Some(Duration::from_millis(500));
    connection.options.wait_for_ready = true;
    let client = load::connect(connection);
    for late in fail(&client).await {
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
        assert!(
            late.message().starts_with(
                "the deadline passed before there was a connection; the last attempt: cannot reach"
            ),
            "{late}"
        );
        let details = late.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "UNREACHABLE");
    }
}

#[tokio::test]
async fn a_call_that_is_made_for_another_ends_by_the_deadline_of_that_one() {
    let pki = Pki::new();
    let server = Script::serve(&pki, Vec::new(), |_| Vec::new()).await;
    let client = server.client(&pki);
    let by_hand = client.retry().begin(Some(DEADLINE));
    let once = tonic::Request::new(RecordRequest::default());
    for mut request in [once, by_hand.request(RecordRequest::default())] {
        let began = Instant::now();
        let until = began + Duration::from_millis(300);
        request.extensions_mut().insert(Deadline(until));
        let late = echo(&client).record(request).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        // By that deadline, and not by the client's own.
        assert!(began.elapsed() < DEADLINE, "{late:?}");
    }
}
