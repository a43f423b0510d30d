//! The end of a server: calls that are under way finish, and no peer delays it beyond its deadline.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use test_contract::v1::{ChatRequest, CollectRequest, EchoRequest, WatchRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::frames::{self, DATA, END_HEADERS, HEADERS, frame};
use crate::raw;
use crate::world::{Pki, Server};

/// Of a collection that is under way when the server stops.
const TEXTS: u64 = 5_000;

const CHAT: &str = "/countersign.test.v1.EchoService/Chat";

/// How long the server waits for open calls.
const DRAIN: Duration = Duration::from_secs(4);

/// What the rest of its end may take on a busy machine.
const SLACK: Duration = Duration::from_secs(8);

fn start(pki: &Pki) -> Server {
    Server::start(pki, &["--drain-timeout", "4s"])
}

/// Asks the server to stop, waits until it did with exit code 0, and gives how long that took.
async fn stop(mut server: Server) -> Duration {
    let began = Instant::now();
    server.signal("TERM");
    let ended = tokio::task::spawn_blocking(move || server.wait())
        .await
        .unwrap();
    assert_eq!(ended.code(), Some(0));
    let took = began.elapsed();
    assert!(took < DRAIN + SLACK, "{took:?}");
    took
}

async fn tls(pki: &Pki, address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut tls = raw::handshake(pki, "orders", address, &[b"h2"])
        .await
        .unwrap();
    // The server's SETTINGS: it has accepted us.
    frames::read(&mut tls).await.unwrap();
    tls
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_without_a_call_do_not_hold_it_up_at_all() {
    let pki = Pki::new();
    let server = start(&pki);
    let address = server.address;
    let mut idle = pki.client("orders", address);
    let request = EchoRequest {
        text: "NOT_FOUND".to_owned(),
    };
    assert_eq!(idle.echo(request).await.unwrap_err().code(), Code::NotFound);
    let silent_socket = TcpStream::connect(address).await.unwrap();
    let mut half_a_handshake = TcpStream::connect(address).await.unwrap();
    half_a_handshake
        .write_all(&[0x16, 3, 1, 2, 0, 1])
        .await
        .unwrap();
    let silent_peer = tls(&pki, address).await;
    let mut half_a_preface = tls(&pki, address).await;
    half_a_preface
        .write_all(&frames::PREFACE[..10])
        .await
        .unwrap();
    // It never answers the PING by which a server ends a connection.
    let mut silent_since_its_preface = tls(&pki, address).await;
    silent_since_its_preface
        .write_all(&frames::opening(0))
        .await
        .unwrap();

    let took = stop(server).await;
    // Well under its deadline: nothing was waited for.
    assert!(took < DRAIN, "{took:?}");
    drop((
        idle,
        silent_socket,
        half_a_handshake,
        silent_peer,
        half_a_preface,
        silent_since_its_preface,
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_cut() {
    let pki = Pki::new();
    let server = start(&pki);
    let mut never_reads = tls(&pki, server.address).await;
    let request = [
        frames::opening(0),
        frame(HEADERS, END_HEADERS, 1, &frames::call(CHAT)),
        frame(DATA, 0, 1, &[0; 5]),
    ];
    never_reads.write_all(&request.concat()).await.unwrap();
    // The call is under way once its headers are there.
    while frames::read(&mut never_reads).await.unwrap().0 != HEADERS {}
    let took = stop(server).await;
    assert!(took >= DRAIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_watch_is_told_and_ends() {
    let pki = Pki::new();
    let server = start(&pki);
    let mut health = HealthClient::new(pki.channel("orders", server.address));
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let told = tokio::spawn(async move {
        let mut told = Vec::new();
        while let Ok(Some(message)) = watch.message().await {
            told.push(message.status());
        }
        told
    });
    let took = stop(server).await;
    assert!(took < DRAIN, "{took:?}");
    assert_eq!(told.await.unwrap(), [ServingStatus::NotServing]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_ends_when_the_drain_begins_and_says_so() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--drain-timeout", "1h"]);
    let mut orders = pki.client("orders", server.address);
    let watch = orders.watch(WatchRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    watch.message().await.unwrap().unwrap();
    let ended = tokio::spawn(async move { watch.message().await });
    // Long before its deadline.
    stop(server).await;
    let status = ended.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let details = status.get_error_details();
    let reason = details
        .error_info()
        .map(|info| (&*info.reason, &*info.domain));
    assert_eq!(reason, Some(("DRAINING", "server.countersign")));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_under_way_finish_and_new_ones_are_not_taken() {
    let pki = Pki::new();
    let server = start(&pki);
    let address = server.address;
    let mut orders = pki.client("orders", address);
    // A call that is under way for as long as we like: the server waits for our next message.
    let (send, messages) = mpsc::channel(1);
    let answers = orders.chat(ReceiverStream::new(messages)).await.unwrap();
    let mut answers = answers.into_inner();
    let say = |id: u32| ChatRequest {
        text: id.to_string(),
    };
    send.send(say(1)).await.unwrap();
    answers.message().await.unwrap().unwrap();
    // And one with a single answer: what it has sent is more than fits on the way, so the handler has begun to read.
    let (send_texts, texts) = mpsc::channel(1);
    let mut catalog = pki.client("catalog", address);
    let collected = tokio::spawn(async move { catalog.collect(ReceiverStream::new(texts)).await });
    for number in 0..TEXTS {
        let text = CollectRequest {
            text: format!("text {number}, which fills the way").repeat(4),
        };
        send_texts.send(text).await.unwrap();
    }

    server.signal("TERM");
    server.log.wait(|line| line["message"] == "draining");
    let refused = timeout(SLACK, TcpStream::connect(address)).await.unwrap();
    assert!(refused.is_err(), "it still accepts");
    send.send(say(2)).await.unwrap();
    answers.message().await.unwrap().unwrap();
    drop((send, send_texts));
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(collected.await.unwrap().unwrap().into_inner().count, TEXTS);
    let mut server = server;
    let ended = tokio::task::spawn_blocking(move || (server.wait(), server))
        .await
        .unwrap();
    assert_eq!(ended.0.code(), Some(0));
    ended
        .1
        .log
        .wait(|line| line["message"] == "stopped: every call was finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_hangs_up_costs_no_call() {
    let pki = Pki::new();
    let mut server = start(&pki);
    let (send, messages) = mpsc::channel(1);
    let say = |id: u32| ChatRequest {
        text: id.to_string(),
    };
    send.send(say(1)).await.unwrap();
    let mut orders = pki.client("orders", server.address);
    let answers = orders.chat(ReceiverStream::new(messages)).await;
    let mut answers = answers.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    server.signal("HUP");
    server.log.wait(|line| line["message"] == "draining");
    send.send(say(2)).await.unwrap();
    answers.message().await.unwrap().unwrap();
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
    let ended = tokio::task::spawn_blocking(move || (server.wait(), server));
    let (ended, server) = ended.await.unwrap();
    assert_eq!(ended.code(), Some(0));
    let clean = |line: &serde_json::Value| line["message"] == "stopped: every call was finished";
    server.log.wait(clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_so_before_it_stops_and_a_second_signal_stops_it_at_once() {
    let pki = Pki::new();
    let mut server = Server::start(&pki, &["--drain-delay", "1h", "--drain-timeout", "1h"]);
    let mut orders = pki.client("orders", server.address);
    let watch = orders.watch(WatchRequest::default()).await.unwrap();
    server.signal("TERM");
    server.log.wait(|line| line["reason"] == "draining");
    // It is no longer ready, and serves all the same.
    let mut health = HealthClient::new(pki.channel("auditor", server.address));
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    server.signal("INT");
    let ended = tokio::task::spawn_blocking(move || server.wait())
        .await
        .unwrap();
    assert_eq!(ended.code(), Some(0));
    drop(watch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_asked_to_leave_before_does_not_hold_it_up() {
    for setting in ["--max-connection-idle", "--max-connection-age"] {
        let pki = Pki::new();
        let server = Server::start(&pki, &["--drain-timeout", "1h", setting, "300ms"]);
        let mut silent = tls(&pki, server.address).await;
        silent.write_all(&frames::opening(0)).await.unwrap();
        // It is sent a GOAWAY with a PING, and never answers.
        while frames::read(&mut silent).await.unwrap().0 != raw::GOAWAY {}
        stop(server).await;
        drop(silent);
    }
}
