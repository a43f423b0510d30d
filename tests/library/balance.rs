//! One client and several servers: they come and go without failing its calls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::client::Connection;
use identity::{Peer, Role};
use mtls::{Channel, ChannelOptions, Limits, ServerIdentity, Source, Target, Targets};
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tower::service_fn;

use crate::load::{self, Load};
use crate::scrape::Scrape;
use crate::world::{Pki, Server, eventually};

/// A server at this port, or at any.
fn start(pki: &Pki, port: u16) -> Server {
    Server::start(pki, &["--listen", &format!("127.0.0.1:{port}")])
}

fn calls(server: &Server) -> f64 {
    let labels = [("rpc_method", "countersign.test.v1.EchoService/Echo")];
    Scrape::of(server.admin).sum("rpc_server_call_duration_seconds_count", &labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_killed_drained_and_added_and_no_call_fails() {
    let pki = Pki::new();
    let mut servers: Vec<_> = [0; 3].map(|port| start(&pki, port)).into();
    let ports: Vec<_> = servers.iter().map(|server| server.address.port()).collect();
    let targets: Vec<_> = ports
        .iter()
        .map(|port| format!("https://localhost:{port}"))
        .collect();
    let targets = Targets::parse(&targets.join(",")).unwrap();
    let source = Source::directory(pki.dir("auditor"));
    let client = load::connect(Connection::new(targets, source));
    let c = servers.pop().unwrap();
    drop(c);
    let load = Load::start(&client);
    let b = servers.pop().unwrap();
    let a = servers.pop().unwrap();
    for server in [&a, &b] {
        eventually("both are called", || (calls(server) > 10.0).then_some(()));
    }

    // Killed, without a word.
    drop(a);
    load.goes_on(200).await;
    // Added.
    let c = start(&pki, ports[2]);
    eventually("the added one is called", || {
        (calls(&c) > 10.0).then_some(())
    });
    // Drained.
    let mut b = b;
    b.signal("TERM");
    let ended = tokio::task::spawn_blocking(move || b.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    load.goes_on(200).await;

    // All of them again: once each is called, each gets its share.
    let (a, b) = (start(&pki, ports[0]), start(&pki, ports[1]));
    let all = [&a, &b, &c];
    eventually("all are called", || {
        all.iter().all(|server| calls(server) > 100.0).then_some(())
    });
    let before = all.map(calls);
    load.goes_on(3_000).await;
    let after = all.map(calls);
    let (served, failures) = load.stop().await;
    assert_eq!(
        failures,
        Vec::<String>::new(),
        "beside {served} that were served"
    );
    let shares: Vec<_> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let fair = shares.iter().sum::<f64>() / 3.0;
    for share in &shares {
        assert!((share - fair).abs() < 0.2 * fair, "{shares:?}");
    }
}

/// Calls a channel without a pause for a while; gives how often that failed.
async fn hammer(channel: Channel, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut failed = 0;
    while Instant::now() < until {
        failed += usize::from(get(&channel).await.is_err());
    }
    failed
}

async fn get(channel: &Channel) -> Result<(), Status> {
    let mut client = EchoServiceClient::new(channel.clone());
    client.echo(EchoRequest::default()).await.map(drop)
}

/// What the pauses of a backoff from 100 ms on, each 1.6 times as long, leave room for in three seconds: seven attempts,
/// a few less or more by its jitter.
fn follows_the_backoff(attempts: usize) -> bool {
    (4..=10).contains(&attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_is_dialled_by_the_backoff_however_many_calls_there_are() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(socket);
        }
    });
    let channel = pki.channel("orders", address);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(hammer(channel.clone(), Duration::from_secs(3)));
    }
    let failed: usize = callers.join_all().await.iter().sum();
    let attempts = attempts.load(Ordering::Relaxed);
    assert!(
        follows_the_backoff(attempts),
        "{attempts} attempts for {failed} calls"
    );
    assert!(failed > 100, "calls fail at once: {failed}");
    let error = get(&channel).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error
            .message()
            .contains("closed the connection during the handshake"),
        "{error}"
    );
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_everybody_and_keeps_nobody_is_dialled_by_the_backoff_too() {
    let pki = Pki::new();
    let limits = Limits {
        max_connection_age: Duration::from_millis(1),
        max_connection_age_grace: Duration::from_millis(1),
        ..Limits::default()
    };
    let (address, connections) = serve(&pki, limits, || Ok(())).await;
    let channel = pki.channel("orders", address);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(hammer(channel.clone(), Duration::from_secs(3)));
    }
    callers.join_all().await;
    let attempts = connections.load(Ordering::Relaxed);
    assert!(follows_the_backoff(attempts), "{attempts} attempts");
}

/// A port in this process whose every call is answered by `answer`; counts its connections.
async fn serve(
    pki: &Pki,
    limits: Limits,
    answer: impl Fn() -> Result<(), Status> + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let service_for = move |_: &Arc<Peer>, _: mtls::Lease| {
        counted.fetch_add(1, Ordering::Relaxed);
        let answer = answer.clone();
        service_fn(move |_request| {
            let answered = answer()
                .err()
                .unwrap_or_else(|| Status::not_found("served"));
            async move { Ok::<_, Infallible>(answered.into_http()) }
        })
    };
    let trust = pki.trust("echo", Role::Server);
    tokio::spawn(mtls::serve(
        listener,
        trust,
        limits,
        service_for,
        std::future::pending(),
    ));
    (address, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_every_call_is_left_alone_though_it_is_never_busy() {
    let pki = Pki::new();
    let broken = Arc::new(AtomicUsize::new(0));
    let counted = broken.clone();
    let failing = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Err(Status::unavailable("broken"))
    };
    let (good, _) = serve(&pki, Limits::default(), || Ok(())).await;
    let (bad, connections) = serve(&pki, Limits::default(), failing).await;
    let servers = [good, bad].map(|address| {
        let target = Target::parse(&format!("https://127.0.0.1:{}", address.port())).unwrap();
        let expected = ServerIdentity::Name(target.server_name());
        (target, expected)
    });
    let trust = pki.trust("orders", Role::Client);
    let channel = mtls::connect_any(servers, trust, ChannelOptions::default());
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let channel = channel.clone();
        callers.spawn(async move {
            for _ in 0..500 {
                get(&channel).await.unwrap_err();
            }
        });
    }
    callers.join_all().await;
    assert_eq!(connections.load(Ordering::Relaxed), 1, "it takes part");
    let seen = broken.load(Ordering::Relaxed);
    // Five until it is left alone, what was on its way then, and a probe now and then; half would be a thousand.
    assert!((5..50).contains(&seen), "{seen} of 2000 calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_a_server_is_made_once_there_is_one() {
    let pki = Pki::new();
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut connection = Connection::new(load::target(free), Source::directory(pki.dir("orders")));
    connection.options.wait_for_ready = true;
    let waiting = load::connect(connection);
    // Not beyond its deadline.
    let late = load::echo(&waiting, "hello", Duration::from_millis(200)).await;
    let late = late.unwrap_err();
    assert_eq!(late.status().code(), Code::DeadlineExceeded, "{late}");
    let call = tokio::spawn({
        let waiting = waiting.clone();
        async move { load::echo(&waiting, "NOT_FOUND", Duration::from_secs(30)).await }
    });
    let _server = start(&pki, free.port());
    let answered = call.await.unwrap().unwrap_err();
    assert_eq!(answered.status().code(), Code::NotFound, "{answered}");
}
