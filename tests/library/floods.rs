//! Floods of sockets from a few addresses, while an honest caller calls from another one.
//!
//! All of 127.0.0.0/8 is this machine on Linux, so a client chooses the address that it comes from. Where it is not,
//! this is skipped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::frames;
use crate::raw;
use crate::scrape::Scrape;
use crate::world::{PATIENCE, Pki, Server, eventually_async, skipped};

/// Addresses that the flood comes from.
const FLOODERS: u8 = 5;

/// Sockets that each of them keeps open; all together they are more than there are places.
const HELD: usize = 300;

/// Honest handshakes, or probes, that must all get through at the first attempt.
const HONEST: usize = 12;

const SOMEBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// What a socket of the flood does.
#[derive(Clone, Copy, Debug)]
enum Flooder {
    /// It sends these bytes, if any, and waits.
    Sends(&'static [u8]),
    /// It closes at once.
    Closes,
}

const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

async fn can_choose_the_address(to: SocketAddr) -> bool {
    let chosen = connect(Ipv4Addr::new(127, 0, 0, 2), to).await;
    if chosen.is_err() {
        skipped("second loopback address, so that nothing is flooded");
    }
    chosen.is_ok()
}

/// Opens sockets until it is dropped, as fast as it can.
struct Flood {
    opened: Opened,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Flood {
    async fn start(to: SocketAddr, flooder: Flooder) -> Self {
        let mut flood = Self {
            opened: Opened::default(),
            stop: Arc::default(),
            tasks: JoinSet::new(),
        };
        for n in 0..FLOODERS {
            let (opened, stop) = (flood.opened.clone(), flood.stop.clone());
            flood.tasks.spawn(async move {
                let mut held = std::collections::VecDeque::new();
                while !stop.load(Ordering::Relaxed) {
                    // One that finds no port on our own side is no attack.
                    let Ok(mut tcp) = connect(Ipv4Addr::new(127, 0, 0, 2 + n), to).await else {
                        tokio::task::yield_now().await;
                        continue;
                    };
                    opened.0.fetch_add(1, Ordering::Relaxed);
                    match flooder {
                        Flooder::Closes => continue,
                        // The server may have sent it away already.
                        Flooder::Sends(bytes) => drop(tcp.write_all(bytes).await),
                    }
                    held.push_back(tcp);
                    if held.len() > HELD {
                        held.pop_front();
                    }
                }
            });
        }
        // It is under way when it has tried for more places than there are.
        flood.opened.goes_on(1_500).await;
        flood
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// How many sockets a flood has opened.
#[derive(Clone, Default)]
struct Opened(Arc<AtomicUsize>);

impl Opened {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until there are `sockets` more.
    async fn goes_on(&self, sockets: usize) {
        let until = self.get() + sockets;
        eventually_async("the flood goes on", || async {
            (self.get() >= until).then_some(())
        })
        .await;
    }
}

/// A handshake as `config` from somebody's own address, up to the first frame of the server, which has accepted us by
/// then. It comes from afar: more sockets than there are places come between its connection and its first byte.
async fn handshake(config: Arc<ClientConfig>, to: SocketAddr, flood: Opened) -> io::Result<()> {
    let tcp = connect(SOMEBODY, to).await?;
    flood.goes_on(600).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(config).connect(name, tcp).await?;
    frames::read(&mut tls).await.map(drop)
}

/// A probe as a kubelet sends it: HTTP/1.1, a connection of its own. Beside a flood it comes from afar too.
async fn probe(to: SocketAddr, flood: Option<Opened>) -> io::Result<()> {
    let mut tcp = connect(SOMEBODY, to).await?;
    if let Some(flood) = flood {
        flood.goes_on(200).await;
    }
    let request = b"GET /readyz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n";
    tcp.write_all(request).await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(io::Error::other(answer))
}

/// What became of the honest ones, `together` at a time, each at its first and only attempt.
async fn all<F>(together: usize, attempt: impl Fn() -> F) -> Vec<String>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut failures = Vec::new();
    for _ in 0..HONEST / together {
        let mut attempts = JoinSet::new();
        for _ in 0..together {
            attempts.spawn(timeout(PATIENCE, attempt()));
        }
        while let Some(ended) = attempts.join_next().await {
            match ended.unwrap() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failures.push(error.to_string()),
                Err(elapsed) => failures.push(elapsed.to_string()),
            }
        }
    }
    failures
}

async fn honest_callers_get_through(flooder: Flooder) {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    if !can_choose_the_address(server.address).await {
        return;
    }
    let config = raw::config(&pki, "orders", &[b"h2"]);
    let flood = Flood::start(server.address, flooder).await;
    let failures = all(HONEST, || {
        handshake(config.clone(), server.address, flood.opened.clone())
    })
    .await;
    let opened = flood.opened.get();
    flood.stop().await;
    assert_eq!(failures, [""; 0], "beside {opened} sockets of the flood");
    // The flood is what was refused, and not for want of trying.
    eventually_async("the refusals are counted", || async {
        let scrape = Scrape::of(server.admin);
        (scrape.sum("tls_handshakes_total", &[("result", "refused")]) > 1_000.0).then_some(())
    })
    .await;
    let accepted = [("side", "server"), ("result", "accepted")];
    let scrape = Scrape::of(server.admin);
    assert_eq!(scrape.sum("tls_handshakes_total", &accepted), HONEST as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_of_five_addresses_keep_no_honest_caller_out() {
    honest_callers_get_through(Flooder::Sends(b"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_handshakes_of_five_addresses_keep_no_honest_caller_out() {
    honest_callers_get_through(Flooder::Sends(HALF_A_HELLO)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_five_addresses_keeps_no_honest_caller_out() {
    honest_callers_get_through(Flooder::Sends(&[0xff; 64])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_close_at_once_keep_no_honest_caller_out() {
    honest_callers_get_through(Flooder::Closes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_flood_of_the_admin_port_keeps_a_probe_out() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    if !can_choose_the_address(server.admin).await {
        return;
    }
    let half_a_request = b"GET /readyz HTTP/1.1\r\nhost: ";
    for flooder in [
        Flooder::Sends(b""),
        Flooder::Sends(half_a_request),
        Flooder::Sends(b"PRI * HTTP/2.0\r\n"),
        Flooder::Sends(&[0xff; 64]),
        Flooder::Closes,
    ] {
        let flood = Flood::start(server.admin, flooder).await;
        let failures = all(4, || probe(server.admin, Some(flood.opened.clone()))).await;
        let opened = flood.opened.get();
        flood.stop().await;
        assert_eq!(failures, [""; 0], "{flooder:?}, beside {opened} sockets");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_of_the_probes_own_address_keep_no_probe_out() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.admin).await.unwrap());
        let probe = timeout(PATIENCE, probe(server.admin, None)).await;
        probe.unwrap().unwrap();
    }
}
