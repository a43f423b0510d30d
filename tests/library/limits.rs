//! The server's limits: calls beyond them, and idle connections.

use std::time::Duration;

use mtls::Channel;
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::{ChatRequest, EchoRequest, RecordRequest, WatchRequest};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::frames;
use crate::raw::{self, Frames};
use crate::scrape::Scrape;
use crate::world::{Pki, Server, eventually, repository};

async fn get(client: &mut EchoServiceClient<Channel>) -> Status {
    let request = EchoRequest {
        text: "NOT_FOUND".to_owned(),
    };
    client.echo(request).await.unwrap_err()
}

fn is_turned_away(status: &Status, reason: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, reason);
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(
        delay > Duration::ZERO && delay < Duration::from_secs(5),
        "{delay:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beyond_the_places_is_turned_away_at_once_and_told_when_to_come_back() {
    let pki = Pki::new();
    let args = [
        "--max-concurrent-calls",
        "3",
        "--max-concurrent-calls-per-peer",
        "2",
    ];
    let server = Server::start(&pki, &args);
    let mut orders = pki.client("orders", server.address);
    let mut again = pki.client("orders", server.address);
    let mut auditor = pki.client("auditor", server.address);
    let mut billing = pki.client("billing", server.address);

    let first = orders.watch(WatchRequest::default()).await.unwrap();
    let _second = again.watch(WatchRequest::default()).await.unwrap();
    is_turned_away(&get(&mut orders).await, "CALLER_BUSY");
    is_turned_away(&get(&mut again).await, "CALLER_BUSY");
    // One identity cannot take the place of another.
    let _third = auditor.watch(WatchRequest::default()).await.unwrap();
    is_turned_away(&get(&mut billing).await, "SERVER_BUSY");

    // A place is free as soon as its call has ended.
    drop(first);
    for _ in 0..1_000 {
        if get(&mut billing).await.code() == Code::NotFound {
            break;
        }
    }
    assert_eq!(get(&mut billing).await.code(), Code::NotFound);
    assert_eq!(get(&mut orders).await.code(), Code::NotFound);
    let scrape = Scrape::of(server.admin);
    let shed = |reason| scrape.sum("rpc_server_shed_total", &[("reason", reason)]);
    assert_eq!(shed("CALLER_BUSY"), 2.0, "{}", scrape.text());
    assert!(shed("SERVER_BUSY") >= 1.0, "{}", scrape.text());
}

/// Opens `number` calls of one connection and says nothing on them.
async fn open_calls(pki: &Pki, name: &str, server: &Server, number: u32) -> Frames {
    let mut frames = Frames::open(pki, name, server.address).await;
    let get = frames::call("/countersign.test.v1.EchoService/Echo");
    for n in 0..number {
        frames
            .send(raw::HEADERS, raw::END_HEADERS, 2 * n + 1, &get)
            .await;
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_message_never_comes_leave_places_for_others_and_end_soon() {
    let pki = Pki::new();
    let args = [
        "--max-concurrent-calls",
        "64",
        "--max-concurrent-calls-per-peer",
        "16",
        "--first-message-timeout",
        "2s",
    ];
    let server = Server::start(&pki, &args);
    // A stream whose first message has come may take its time with the next one.
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let say = ChatRequest::default;
    send.send(say()).await.unwrap();
    let mut catalog = pki.client("catalog", server.address);
    let mut orders = pki.client("orders", server.address);
    let answers = orders.chat(ReceiverStream::new(messages)).await;
    let mut answers = answers.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();

    let mut held = Vec::new();
    for name in ["orders", "auditor", "billing", "mainframe"] {
        held.push(open_calls(&pki, name, &server, 20).await);
    }
    let shed = || Scrape::of(server.admin).sum("rpc_server_shed_total", &[]);
    eventually("the calls that found no place are turned away", || {
        (shed() >= 20.0).then_some(())
    });
    // Four identities have not taken every place, and the last ones are not for those that hold many.
    assert_eq!(get(&mut catalog).await.code(), Code::NotFound);

    let late = [("rpc_status_code", "DEADLINE_EXCEEDED")];
    eventually("the calls end", || {
        let scrape = Scrape::of(server.admin);
        let ended = scrape.sum("rpc_server_call_duration_seconds_count", &late);
        let all = ended + scrape.sum("rpc_server_shed_total", &[]) >= 80.0;
        (all && scrape.sum("rpc_server_open_calls", &[]) == 1.0).then_some(())
    });
    send.send(say()).await.unwrap();
    answers.message().await.unwrap().unwrap();
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_first_message_is_late_says_so_whatever_its_kind() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--first-message-timeout", "100ms"]);
    let is_late = |status: &Status| {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let details = status.get_error_details();
        assert_eq!(
            details.error_info().unwrap().reason,
            "FIRST_MESSAGE_TOO_SLOW"
        );
    };
    let mut catalog = pki.client("catalog", server.address);
    is_late(&catalog.collect(tokio_stream::pending()).await.unwrap_err());
    let mut orders = pki.client("orders", server.address);
    let answers = orders.chat(tokio_stream::pending()).await;
    let status = match answers {
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    is_late(&status);
    // Half a message is none.
    let mut half = Frames::open(&pki, "orders", server.address).await;
    let get = frames::call("/countersign.test.v1.EchoService/Echo");
    half.send(raw::HEADERS, raw::END_HEADERS, 1, &get).await;
    half.send(raw::DATA, 0, 1, &[0, 0, 0, 0, 9, 1, 1]).await;
    let answer = loop {
        let frame = half.next().await.unwrap();
        if frame.stream == 1 {
            break frame;
        }
    };
    assert_eq!(answer.kind, raw::HEADERS, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_calls_goes_and_the_next_call_does_not_notice() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--max-connection-idle", "100ms"]);
    let mut orders = pki.client("orders", server.address);
    let ended =
        || Scrape::of(server.admin).sum("tls_connections_ended_total", &[("reason", "IDLE")]);
    for round in 1..=3 {
        assert_eq!(get(&mut orders).await.code(), Code::NotFound);
        eventually("it goes", || (ended() >= f64::from(round)).then_some(()));
    }
    // An open stream is a call, however silent.
    let mut auditor = pki.client("auditor", server.address);
    let mut watch = auditor
        .watch(WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap().unwrap();
    let open = tokio::time::timeout(Duration::from_millis(500), watch.message()).await;
    assert!(open.is_err(), "{open:?}");
    let live = Scrape::of(server.admin).sum("tls_connections", &[]);
    assert_eq!(live, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_its_size_is_refused() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--max-message-size", "100"]);
    let mut orders = pki.client("orders", server.address);
    assert_eq!(get(&mut orders).await.code(), Code::NotFound);
    let request = EchoRequest {
        text: "X".repeat(200),
    };
    let refused = orders.echo(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_beyond_all_places_waits_until_one_is_free() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--max-connections", "2"]);
    let mut held = Vec::new();
    for name in ["orders", "auditor"] {
        let mut client = pki.client(name, server.address);
        let watch = client.watch(WatchRequest::default());
        held.push((watch.await.unwrap(), client));
    }
    server.log.wait(|line| line["code"] == "CONNECTIONS_FULL");
    let mut waiting = pki.client("billing", server.address);
    let call = tokio::spawn(async move { get(&mut waiting).await });
    held.pop();
    assert_eq!(call.await.unwrap().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_loses_its_connection_and_one_that_waits_does_not() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--unread-timeout", "200ms"]);
    let mut auditor = pki.client("auditor", server.address);
    let watch = auditor.watch(WatchRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();

    let mut never_reads = never_reads(&pki, &server, &frames::call(WATCH)).await;
    is_cut(&server);
    let open = || Scrape::of(server.admin).sum("rpc_server_open_calls", &[]);
    eventually("its place is free", || (open() == 1.0).then_some(()));
    frames::read_to_end(&mut never_reads).await;
    // The other one had nothing to read all the while.
    let mut orders = pki.client("orders", server.address);
    orders.record(RecordRequest::default()).await.unwrap();
    assert!(watch.message().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_loses_its_connection_once_its_deadline_has_passed() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let call = frames::call_within(WATCH, "200m");
    let mut never_reads = never_reads(&pki, &server, &call).await;
    is_cut(&server);
    frames::read_to_end(&mut never_reads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_loses_its_connection_once_its_right_is_withdrawn() {
    let pki = Pki::new();
    let policy = pki.dir.path().join("policy.json");
    let shipped = std::fs::read_to_string(repository().join("tests/library/policy.json")).unwrap();
    std::fs::write(&policy, &shipped).unwrap();
    let server = Server::start(&pki, &["--policy", policy.to_str().unwrap()]);
    let mut never_reads = never_reads(&pki, &server, &frames::call(WATCH)).await;
    let open = || Scrape::of(server.admin).sum("rpc_server_open_calls", &[]);
    eventually("its call is open", || (open() == 1.0).then_some(()));
    // A policy that changes nothing for it.
    let replace = |text: &str| {
        let next = policy.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &policy).unwrap();
    };
    let of_catalog = shipped.replace("spiffe://acme.test/catalog", "spiffe://acme.test/other");
    replace(&of_catalog);
    server.log.wait(|line| line["generation"] == 2);
    replace(&of_catalog.replace("spiffe://acme.test/orders", "spiffe://acme.test/former"));
    is_cut(&server);
    frames::read_to_end(&mut never_reads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_reads_a_part_of_a_response_only_loses_its_connection() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--unread-timeout", "200ms"]);
    let text = [b'x'; 4000];
    let message = [&[0x0a, 0xa0, 0x1f][..], &text].concat();
    let length = u32::try_from(message.len()).unwrap();
    let message = [&[0][..], &length.to_be_bytes(), &message].concat();
    let whole = u32::try_from(message.len()).unwrap();
    for (window, is_cut) in [(1, true), (whole - 1, true), (whole, false)] {
        let ended = || {
            let cut = [("reason", "RESPONSE_UNREAD")];
            Scrape::of(server.admin).sum("tls_connections_ended_total", &cut)
        };
        let before = ended();
        let tls = raw::handshake(&pki, "orders", server.address, &[b"h2"]).await;
        let mut tls = tls.unwrap();
        let request = [
            frames::opening(window),
            frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::call(ECHO)),
            frames::frame(frames::DATA, frames::END_STREAM, 1, &message),
        ];
        tls.write_all(&request.concat()).await.unwrap();
        if is_cut {
            eventually("it is cut", || (ended() > before).then_some(()));
            frames::read_to_end(&mut tls).await;
            continue;
        }
        // Its trailers come, and it stays.
        let is_end = |kind, flags| kind == frames::HEADERS && flags & frames::END_STREAM != 0;
        loop {
            let (kind, flags, ..) = frames::read_frame(&mut tls).await.unwrap();
            if is_end(kind, flags) {
                break;
            }
        }
        assert_eq!(ended(), before, "window {window}");
    }
}

const ECHO: &str = "/countersign.test.v1.EchoService/Echo";
const WATCH: &str = "/countersign.test.v1.EchoService/Watch";

/// A connection of orders with a window of 0, so that not even the end of its call could be sent.
async fn never_reads(pki: &Pki, server: &Server, call: &[u8]) -> TlsStream<TcpStream> {
    let tls = raw::handshake(pki, "orders", server.address, &[b"h2"]).await;
    let mut never_reads = tls.unwrap();
    let request = [
        frames::opening(0),
        frames::frame(frames::HEADERS, frames::END_HEADERS, 1, call),
        frames::frame(frames::DATA, frames::END_STREAM, 1, &[0; 5]),
    ];
    never_reads.write_all(&request.concat()).await.unwrap();
    never_reads
}

fn is_cut(server: &Server) {
    let cut = [("reason", "RESPONSE_UNREAD")];
    let ended = || Scrape::of(server.admin).sum("tls_connections_ended_total", &cut);
    eventually("it is cut", || (ended() == 1.0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_connections_are_for_identities_that_have_few() {
    let pki = Pki::new();
    let args = ["--max-connections", "8", "--max-connections-per-peer", "4"];
    let server = Server::start(&pki, &args);
    let connect = async |name| {
        let mut tls = raw::handshake(&pki, name, server.address, &[b"h2"]).await?;
        frames::read(&mut tls).await.map(|_settings| tls)
    };
    let mut held = Vec::new();
    for name in [
        "orders", "orders", "orders", "auditor", "auditor", "catalog",
    ] {
        held.push(connect(name).await.unwrap());
    }
    let shed = || Scrape::of(server.admin).sum("tls_connections_shed_total", &[]);
    for name in ["orders", "auditor", "catalog"] {
        let before = shed();
        connect(name).await.unwrap_err();
        eventually("it is turned away", || (shed() > before).then_some(()));
    }
    for name in ["billing", "mainframe"] {
        held.push(connect(name).await.unwrap());
    }
}
