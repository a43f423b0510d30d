//! Rotation under load: leaves and authorities are replaced while calls are made, and no call fails.
//!
//! `COUNTERSIGN_LOAD=full` runs it for two minutes at 500 calls a second; without, a few seconds show the same.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cli::pki::Authority;
use harness::echo::Echo;
use http::Request;
use http_body_util::BodyExt as _;
use identity::{Peer, Role};
use mtls::{Channel, Limits, Trust};
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::echo_service_server::EchoServiceServer;
use test_contract::v1::{ChatRequest, EchoRequest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep};
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{ServiceExt, service_fn};
use uuid::Uuid;

use crate::world::{Pki, channel, eventually, hour, spec, validity};

/// By which the server knows a call that it has seen before.
const CALL_ID: &str = "x-call-id";
const CALLERS: [&str; 4] = ["orders", "catalog", "auditor", "billing"];

/// How much of it there is.
struct Load {
    rotations: usize,
    roll_overs: usize,
    calls_per_second: f64,
    between: Duration,
}

impl Load {
    fn chosen() -> Self {
        if std::env::var_os("COUNTERSIGN_LOAD").is_some_and(|load| load == "full") {
            return Self {
                rotations: 60,
                roll_overs: 6,
                calls_per_second: 600.0,
                between: Duration::from_millis(1_400),
            };
        }
        Self {
            rotations: 4,
            roll_overs: 1,
            calls_per_second: 100.0,
            between: Duration::from_millis(300),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figure that was measured")]
#[tokio::test(flavor = "multi_thread")]
async fn leaves_and_authorities_are_replaced_under_load_and_no_call_fails_or_runs_twice() {
    let load = Load::chosen();
    let mut pki = Pki::empty();
    issue(&pki, "echo");
    CALLERS.iter().for_each(|name| issue(&pki, name));
    pki.put("echo", "crl.pem", pki.crl(1, &[]));
    let port = Port::serve(&pki).await;
    let pace = Duration::from_secs_f64(CALLERS.len() as f64 / load.calls_per_second);
    let callers: Vec<_> = CALLERS
        .iter()
        .map(|name| LoadCaller::start(&pki, name, &port, pace))
        .collect();

    let began = Instant::now();
    for generation in 0..load.roll_overs {
        for _ in 0..load.rotations / load.roll_overs {
            sleep(load.between).await;
            rotate(&pki, &port, &callers);
        }
        roll_over(&mut pki, generation, &port, &callers);
    }
    let mut answered = 0;
    for caller in callers {
        answered += caller.end().await;
    }
    let took = began.elapsed();
    println!(
        "{answered} calls in {took:.1?} ({:.0} a second): {} rotations, {} roll-overs",
        answered as f64 / took.as_secs_f64(),
        load.rotations,
        load.roll_overs
    );
    {
        let seen = port.seen.lock().unwrap();
        let twice = seen.calls.values().filter(|times| **times > 1).count();
        assert_eq!((seen.calls.len(), twice), (answered, 0));
    }
    port.stop().await;
}

/// A new key and certificate, of two files that are replaced one after the other.
fn issue(pki: &Pki, name: &str) {
    let mut spec = spec(name);
    // Short, so that a caller moves to its new certificate within two seconds.
    spec.validity = validity(Duration::from_secs(20));
    pki.issue(name, &spec);
}

/// Replaces every leaf, the server's first, and waits until each is in use.
fn rotate(pki: &Pki, port: &Port, callers: &[LoadCaller]) {
    changed(&[&port.trust], || issue(pki, "echo"));
    for caller in callers {
        changed(&[&caller.trust], || issue(pki, caller.name));
    }
}

/// First the old root and the new one, then leaves of the new one, then the new one alone; revocation lists likewise.
fn roll_over(pki: &mut Pki, generation: usize, port: &Port, callers: &[LoadCaller]) {
    let old = pki.root.certificate_pem().to_owned();
    let old_list = pki.crl(1, &[]);
    pki.root = Authority::root(&format!("root {generation}"), hour()).unwrap();
    pki.issuing = pki
        .root
        .issuing(&format!("issuing {generation}"), hour())
        .unwrap();
    let issuer = format!("CN=issuing {generation}");
    let all: Vec<_> = callers
        .iter()
        .map(|caller| &caller.trust)
        .chain([&port.trust])
        .collect();
    let list = pki.crl(1, &[]);
    let trust = |roots: &str, lists: &str| {
        changed(&all, || {
            for name in CALLERS.iter().chain(&["echo"]) {
                pki.put(name, "ca.crt", roots);
            }
            pki.put("echo", "crl.pem", lists);
        });
    };
    let new = pki.root.certificate_pem();
    trust(&format!("{old}{new}"), &format!("{old_list}{list}"));
    rotate(pki, port, callers);
    eventually("no call is open that the old root vouches for", || {
        port.seen.lock().unwrap().is_all_of(&issuer).then_some(())
    });
    trust(new, &list);
}

/// Changes files, and waits until each of `trusts` has taken them.
fn changed(trusts: &[&Trust], change: impl FnOnce()) {
    let before: Vec<_> = trusts
        .iter()
        .map(|trust| trust.current().generation())
        .collect();
    change();
    eventually("the new files are in use", || {
        let now = trusts.iter().map(|trust| trust.current().generation());
        now.zip(&before)
            .all(|(now, before)| now > *before)
            .then_some(())
    });
}

/// What reached the server's handlers.
#[derive(Default)]
struct SeenCalls {
    /// How often each call did.
    calls: HashMap<String, usize>,
    /// Calls that are open, by the issuer of the caller's certificate.
    open: HashMap<String, usize>,
    /// The issuer in the last call of each caller.
    last: HashMap<String, String>,
}

impl SeenCalls {
    fn is_all_of(&self, issuer: &str) -> bool {
        let none_older = |(other, open): (&String, &usize)| other == issuer || *open == 0;
        self.last.len() == CALLERS.len()
            && self.last.values().all(|last| last == issuer)
            && self.open.iter().all(none_older)
    }
}

/// The handlers behind the transport alone, in this process, with a note of each call.
struct Port {
    address: SocketAddr,
    trust: Trust,
    seen: Arc<Mutex<SeenCalls>>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<mtls::Drained>,
}

impl Port {
    async fn serve(pki: &Pki) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trust = pki.trust("echo", Role::Server);
        let routes = Routes::new(EchoServiceServer::new(Echo::default()));
        let seen = Arc::new(Mutex::new(SeenCalls::default()));
        let noted = seen.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let service_for = move |_: &Arc<Peer>, _: mtls::Lease| {
            let (routes, seen) = (routes.clone(), noted.clone());
            service_fn(move |request| noting(routes.clone(), seen.clone(), request))
        };
        let shutdown = async {
            stopped.await.ok();
        };
        let served = mtls::serve(
            listener,
            trust.clone(),
            Limits::default(),
            service_for,
            shutdown,
        );
        Self {
            address,
            trust,
            seen,
            stop,
            served: tokio::spawn(served),
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }
}

async fn noting(
    routes: Routes,
    seen: Arc<Mutex<SeenCalls>>,
    request: Request<Body>,
) -> Result<http::Response<Body>, Infallible> {
    let peer = request.extensions().get::<Arc<Peer>>().unwrap().clone();
    let id = request.headers()[CALL_ID].to_str().unwrap().to_owned();
    let issuer = peer.issuer().to_owned();
    {
        let mut seen = seen.lock().unwrap();
        *seen.calls.entry(id).or_default() += 1;
        *seen.open.entry(issuer.clone()).or_default() += 1;
        seen.last.insert(peer.to_string(), issuer.clone());
    }
    let over = Over { seen, issuer };
    let response = routes.oneshot(request).await?;
    // Held by the body, and dropped with it.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &over;
            frame
        }))
    }))
}

/// Takes a call from the open ones when it is dropped.
struct Over {
    seen: Arc<Mutex<SeenCalls>>,
    issuer: String,
}

impl Drop for Over {
    fn drop(&mut self) {
        *self
            .seen
            .lock()
            .unwrap()
            .open
            .get_mut(&self.issuer)
            .unwrap() -= 1;
    }
}

/// Calls at a steady rate, one in four of them a stream of half a second, until it is told to end.
struct LoadCaller {
    name: &'static str,
    trust: Trust,
    stop: oneshot::Sender<()>,
    /// How many calls were answered.
    work: JoinHandle<usize>,
}

impl LoadCaller {
    fn start(pki: &Pki, name: &'static str, port: &Port, pace: Duration) -> Self {
        let trust = pki.trust(name, Role::Client);
        let channel = channel(trust.clone(), port.address);
        let (stop, mut stopped) = oneshot::channel::<()>();
        let work = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            let mut due = interval(pace);
            let mut answered = 0;
            for turn in 0.. {
                tokio::select! {
                    _ = &mut stopped => break,
                    _ = due.tick() => {}
                }
                calls.spawn(call_once(channel.clone(), turn % 4 == 0));
                while let Some(call) = calls.try_join_next() {
                    call.unwrap();
                    answered += 1;
                }
            }
            answered + calls.join_all().await.len()
        });
        Self {
            name,
            trust,
            stop,
            work,
        }
    }

    async fn end(self) -> usize {
        self.stop.send(()).unwrap();
        self.work.await.unwrap()
    }
}

async fn call_once(channel: Channel, stream: bool) {
    let mut echo = EchoServiceClient::new(channel);
    if stream {
        let rows = tokio_stream::iter(0..5)
            .throttle(Duration::from_millis(100))
            .map(|_| ChatRequest::default());
        let mut answers = echo.chat(marked(rows)).await.unwrap().into_inner();
        let mut count = 0;
        while answers.message().await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 5);
    } else {
        echo.echo(marked(EchoRequest::default())).await.unwrap();
    }
}

fn marked<M>(message: M) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert(CALL_ID, Uuid::now_v7().to_string().parse().unwrap());
    request.set_timeout(Duration::from_secs(10));
    request
}
