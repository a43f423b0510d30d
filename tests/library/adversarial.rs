//! Hostile peers beside honest callers: the honest ones are served, and what the hostile ones held is freed.
//!
//! `COUNTERSIGN_ADVERSARIES=10000` has that many of the cheap ones; a thousand is the default.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, End, HEADERS, PING,
    PROTOCOL_ERROR, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::load::{self, Load};
use crate::process_facts::Facts;
use crate::raw;
use crate::scrape::Scrape;
use crate::world::{Pki, Server, eventually, in_repository, program};

/// The longest that the server may put up with anything here; its own deadlines are a second.
const PATIENCE: Duration = Duration::from_secs(20);

const GET: &str = "/countersign.test.v1.EchoService/Echo";
const WATCH: &str = "/countersign.test.v1.EchoService/Watch";

const DEADLINES: [&str; 8] = [
    "--handshake-timeout",
    "1s",
    "--preface-timeout",
    "1s",
    "--keepalive-interval",
    "500ms",
    "--keepalive-timeout",
    "500ms",
];

fn adversaries() -> usize {
    let number = std::env::var("COUNTERSIGN_ADVERSARIES");
    number.map_or(1_000, |number| number.parse().unwrap())
}

/// Who attacks, and as whom.
#[derive(Clone)]
struct Attacker {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
}

impl Attacker {
    fn new(pki: &Pki, name: &str, address: SocketAddr) -> Self {
        Self {
            address,
            config: raw::config(pki, name, &[b"h2"]),
        }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection on which the server has begun to speak. One that has to make way for others is made again.
    async fn tls(&self) -> TlsStream<TcpStream> {
        for _ in 0..100 {
            if let Ok(mut tls) = raw::handshake_with(self.config.clone(), self.address).await
                && frames::read(&mut tls).await.is_ok()
            {
                return tls;
            }
        }
        panic!("no connection in 100 attempts");
    }

    /// Speaks HTTP/2, writes `flood` again and again without reading, and then reads how it ended.
    async fn flood(&self, opening: Vec<u8>, flood: impl Fn(u32) -> Vec<u8>) -> End {
        let mut tls = self.tls().await;
        let attack = async {
            let written = async {
                tls.write_all(&opening).await?;
                for n in 0..20_000 {
                    tls.write_all(&flood(2 * n + 1)).await?;
                }
                tls.flush().await
            };
            // The server may have had enough at any byte.
            written.await.ok();
            frames::read_to_end(&mut tls).await
        };
        timeout(PATIENCE, attack).await.unwrap()
    }
}

async fn closes(mut stream: impl AsyncReadExt + Unpin) {
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "still open after {PATIENCE:?}");
}

async fn silent(attacker: Attacker, bytes: &'static [u8]) {
    let mut sockets = JoinSet::new();
    for _ in 0..100 {
        let mut tcp = attacker.tcp().await;
        tcp.write_all(bytes).await.ok();
        sockets.spawn(closes(tcp));
    }
    while let Some(closed) = sockets.join_next().await {
        closed.unwrap();
    }
}

async fn connect_and_drop(attacker: Attacker, number: usize) {
    for _ in 0..number {
        // One that finds no descriptor or port on our own side is no attack.
        drop(TcpStream::connect(attacker.address).await);
    }
}

async fn authenticated_and_silent(attacker: Attacker, bytes: &'static [u8]) {
    for _ in 0..10 {
        let mut tls = attacker.tls().await;
        tls.write_all(bytes).await.ok();
        closes(tls).await;
    }
}

async fn without_alpn(mut attacker: Attacker) {
    let mut config = (*attacker.config).clone();
    config.alpn_protocols.clear();
    attacker.config = Arc::new(config);
    for _ in 0..10 {
        match raw::handshake_with(attacker.config.clone(), attacker.address).await {
            Ok(tls) => closes(tls).await,
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::TimedOut),
        }
    }
}

fn begin(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &frames::call(GET))
}

async fn rapid_reset(attacker: Attacker) {
    let reset = |stream| [begin(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
    let end = attacker.flood(frames::opening(65_535), reset).await;
    assert!(
        matches!(end, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed),
        "{end:?}"
    );
}

/// The server is made to reset the streams itself, by a window that overflows (RFC 9113 §6.9.1).
async fn made_to_reset(attacker: Attacker) {
    let reset = |stream| {
        [
            begin(stream),
            frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
        ]
        .concat()
    };
    let end = attacker.flood(frames::opening(65_535), reset).await;
    assert!(
        matches!(end, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed),
        "{end:?}"
    );
}

async fn resets_of_nothing(attacker: Attacker) {
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let end = attacker.flood(frames::opening(65_535), reset).await;
    assert!(
        matches!(end, End::GoAway(PROTOCOL_ERROR) | End::Closed),
        "{end:?}"
    );
}

async fn continuations(attacker: Attacker) {
    let headers = frame(HEADERS, 0, 1, &frames::call(GET));
    let opening = [frames::opening(65_535), headers].concat();
    let more = |_| frame(CONTINUATION, 0, 1, &frames::large_header(1_000));
    let end = attacker.flood(opening, more).await;
    assert!(
        matches!(end, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed),
        "{end:?}"
    );
}

async fn pings(attacker: Attacker) {
    let end = attacker.flood(frames::opening(65_535), |n| {
        frame(PING, 0, 0, &u64::from(n).to_be_bytes())
    });
    end.await;
}

async fn settings(attacker: Attacker) {
    attacker
        .flood(frames::opening(65_535), |_| frame(SETTINGS, 0, 0, &[]))
        .await;
}

/// A list of headers beyond all that is read is answered by an error, whatever becomes of the connection.
async fn large_headers(attacker: Attacker) {
    let mut tls = attacker.tls().await;
    let large = frames::large_header(12_000).repeat(6);
    let headers = [frames::call(GET), large].concat();
    let mut request = frames::opening(65_535);
    for (n, part) in headers.chunks(16_000).enumerate() {
        let last = (n + 1) * 16_000 >= headers.len();
        let (kind, flags) = match n {
            0 => (HEADERS, END_STREAM),
            _ => (CONTINUATION, if last { END_HEADERS } else { 0 }),
        };
        request.extend(frame(kind, flags, 1, part));
    }
    // The server may have had enough before the end.
    tls.write_all(&request).await.ok();
    let answer = timeout(PATIENCE, async {
        while let Ok((kind, stream, payload)) = frames::read(&mut tls).await {
            if stream == 1 {
                return Some((kind, payload));
            }
        }
        None
    });
    if let Some((HEADERS, payload)) = answer.await.unwrap() {
        // An indexed `:status: 200` is 0x88; 431 is a literal.
        assert_ne!(payload.first(), Some(&0x88), "{payload:?}");
    }
}

/// Streams that are never read from, in number up to the limit and beyond.
async fn zero_windows(attacker: Attacker) {
    let mut tls = attacker.tls().await;
    let mut request = frames::opening(0);
    for n in 0..300 {
        let stream = 2 * n + 1;
        request.extend(frame(HEADERS, END_HEADERS, stream, &frames::call(WATCH)));
        request.extend(frame(DATA, END_STREAM, stream, &[0; 5]));
    }
    tls.write_all(&request).await.unwrap();
    // PINGs are answered, so that nothing but the streams is held against it.
    let until = Instant::now() + Duration::from_secs(2);
    while let Ok(Ok((kind, _, payload))) =
        timeout(until - Instant::now(), frames::read(&mut tls)).await
    {
        if kind == PING && tls.write_all(&frame(PING, 1, 0, &payload)).await.is_err() {
            return;
        }
    }
}

async fn slow_bodies(attacker: Attacker) {
    let mut tls = attacker.tls().await;
    let mut request = frames::opening(65_535);
    for n in 0..100 {
        request.extend(begin(2 * n + 1));
    }
    tls.write_all(&request).await.unwrap();
    for _ in 0..5 {
        for n in 0..100 {
            // The server may have had enough: no PING is answered here.
            tls.write_all(&frame(DATA, 0, 2 * n + 1, &[0])).await.ok();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_beside_every_attack_and_everything_is_let_go_after_it() {
    let pki = Pki::new();
    let server = Server::start(&pki, &DEADLINES);
    let address = server.address;
    let calm = |scrape: &Scrape| {
        scrape.sum("tls_connections", &[]) == 0.0 && scrape.sum("rpc_server_open_calls", &[]) == 0.0
    };
    eventually("the server is calm", || {
        calm(&Scrape::of(server.admin)).then_some(())
    });
    let facts = Facts::of(server.id());
    let before = facts.map(|facts| (facts.descriptors(), facts.memory()));

    let client = load::client(&pki, load::target(address));
    let mut load = Load::start(&client);
    let fresh = {
        let source = mtls::Source::directory(pki.dir("auditor"));
        let connection = countersign::client::Connection::new(load::target(address), source);
        move || load::connect(connection.clone())
    };
    load.caller(fresh);
    load.goes_on(50).await;

    let marketing = Attacker::new(&pki, "marketing", address);
    let orders = Attacker::new(&pki, "orders", address);
    let half_a_hello: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut attacks = JoinSet::new();
    attacks.spawn(silent(marketing.clone(), b""));
    attacks.spawn(silent(marketing.clone(), half_a_hello));
    attacks.spawn(silent(marketing.clone(), &[0xff; 64]));
    attacks.spawn(silent(
        marketing.clone(),
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ));
    attacks.spawn(connect_and_drop(marketing.clone(), adversaries()));
    attacks.spawn(authenticated_and_silent(marketing.clone(), b""));
    attacks.spawn(authenticated_and_silent(
        marketing.clone(),
        b"PRI * HTTP/2.0",
    ));
    attacks.spawn(authenticated_and_silent(marketing.clone(), frames::PREFACE));
    attacks.spawn(without_alpn(marketing.clone()));
    attacks.spawn(rapid_reset(orders.clone()));
    attacks.spawn(made_to_reset(orders.clone()));
    attacks.spawn(resets_of_nothing(orders.clone()));
    attacks.spawn(continuations(orders.clone()));
    attacks.spawn(pings(orders.clone()));
    attacks.spawn(settings(orders.clone()));
    attacks.spawn(large_headers(orders.clone()));
    attacks.spawn(zero_windows(orders.clone()));
    attacks.spawn(slow_bodies(orders));
    while let Some(ended) = attacks.join_next().await {
        ended.unwrap();
        load.goes_on(10).await;
    }
    let (served, failures) = load.stop().await;
    assert_eq!(
        failures,
        Vec::<String>::new(),
        "beside {served} that were served"
    );
    drop(client);

    eventually("the connections and their calls are gone", || {
        calm(&Scrape::of(server.admin)).then_some(())
    });
    let scrape = Scrape::of(server.admin);
    for (reason, at_least) in [
        ("FLOODED", 3.0),
        ("PROTOCOL_BROKEN", 1.0),
        ("PREFACE_TIMEOUT", 20.0),
        ("KEEPALIVE_TIMEOUT", 10.0),
    ] {
        let ended = scrape.sum("tls_connections_ended_total", &[("reason", reason)]);
        assert!(ended >= at_least, "{ended} {reason}: {}", scrape.text());
    }
    for reason in ["EVICTED", "HANDSHAKE_TIMEOUT", "NOT_TLS", "NO_HTTP2"] {
        let refused = scrape.sum("tls_handshakes_total", &[("reason", reason)]);
        assert!(refused > 0.0, "no {reason}: {}", scrape.text());
    }
    if let (Some(facts), Some((descriptors, memory))) = (facts, before) {
        eventually("descriptors are at their baseline", || {
            (facts.descriptors() <= descriptors).then_some(())
        });
        let grown = facts.memory().saturating_sub(memory);
        assert!(
            grown < 32 << 20,
            "{grown} bytes more than the {memory} before"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_nothing_spins_and_callers_come_back() {
    let pki = Pki::new();
    let mut limited = in_repository(Command::new("sh"));
    limited
        .args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""])
        .arg(program("echo-server"));
    let server = Server::start_as(limited, &pki, &[]);
    let Some(facts) = Facts::of(server.id()) else {
        return;
    };
    server.log.wait(|line| line["max_connections"] == 32);
    let client = load::client(&pki, load::target(server.address));
    let load = Load::start(&client);
    load.goes_on(10).await;
    let (_, failures) = load.stop().await;
    assert_eq!(failures, Vec::<String>::new());

    let before = facts.processor_time();
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (spent, passed) = (facts.processor_time() - before, began.elapsed());
    assert!(
        spent < passed / 4,
        "{spent:?} of processor time in {passed:?}"
    );
    assert!(facts.descriptors() < 128);

    // Callers are served even while the pressure lasts, and once it ends.
    let during = load::client(&pki, load::target(server.address));
    let load = Load::start(&during);
    load.goes_on(10).await;
    drop(silent);
    load.goes_on(10).await;
    let (_, failures) = load.stop().await;
    assert_eq!(failures, Vec::<String>::new());
}

#[test]
fn a_process_that_may_open_hardly_a_file_does_not_start() {
    let pki = Pki::new();
    let Some(_) = Facts::of(std::process::id()) else {
        return;
    };
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(program("echo-server"));
    let output = limited
        .arg("--tls-dir")
        .arg(pki.dir("echo"))
        .arg("check")
        .env_clear()
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("may open 64 files") && said.contains("ulimit -n"),
        "{said}"
    );
}
