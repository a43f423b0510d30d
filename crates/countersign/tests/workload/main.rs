//! Identity and trust from an agent alone, without any file: what is taken, what is kept, and what is refused.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use countersign::identity::Role;
use countersign::mtls::{
    self, Channel, ChannelOptions, Limits, Reload, ServerIdentity, Source, Target, Trust, Wanted,
    WorkloadApi,
};
use http::{Request, Response};
use pki_types::CertificateDer;
use prometheus_client::registry::Registry;
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::{Code, Status};

#[path = "../agent/mod.rs"]
mod agent;
mod answers;
mod domains;
#[path = "../example_process/mod.rs"]
mod example_process;
mod process;

use agent::{Agent, Domain, Says, answer};

const ACME: &str = "acme.test";
const PARTNER: &str = "partner.test";
const PATIENCE: Duration = Duration::from_secs(30);

fn reload() -> Reload {
    Reload {
        interval: Duration::from_millis(60),
        ..Reload::default()
    }
}

fn open(role: Role, api: WorkloadApi) -> Result<Trust, mtls::InvalidCredentials> {
    Trust::open(role, Source::workload_api(api), reload())
}

/// Who we are by now, or why nobody would believe us.
fn own(trust: &Trust) -> String {
    let snapshot = trust.current();
    snapshot
        .own()
        .map_or_else(|refusal| refusal.to_string(), |own| own.to_string())
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The verdict of `trust` about this chain, as a code.
fn judge(trust: &Trust, role: Role, chain: &[CertificateDer<'_>]) -> &'static str {
    let snapshot = trust.current();
    let judged = snapshot.authorities().judge(role, chain, SystemTime::now());
    judged.map_or_else(|refusal| refusal.code(), |_peer| "accepted")
}

/// Whether what the source has now was refused.
fn is_refused(trust: &Trust) -> bool {
    let mut registry = Registry::default();
    base::reload::register(vec![("tls", trust.input())], &mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    page.contains("config_last_reload_successful{input=\"tls\"} 0")
}

/// A server that answers every call of a verified peer with `ALREADY_EXISTS`.
async fn server(trust: Trust) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = |_request: Request<Body>| async {
        Ok::<Response<Body>, std::convert::Infallible>(Status::already_exists("here").into_http())
    };
    tokio::spawn(mtls::serve(
        listener,
        trust,
        Limits::default(),
        move |_peer, _authority| tower::service_fn(service),
        std::future::pending(),
    ));
    address
}

fn client(trust: Trust, server: SocketAddr, id: &str) -> EchoServiceClient<Channel> {
    let target = Target::parse(&format!("https://localhost:{}", server.port())).unwrap();
    let expected = ServerIdentity::Spiffe(id.parse().unwrap());
    let options = ChannelOptions::default();
    EchoServiceClient::new(mtls::connect(target, expected, trust, options))
}

async fn call(client: &mut EchoServiceClient<Channel>) -> Status {
    let request = EchoRequest {
        text: "hello".to_owned(),
    };
    client.echo(request).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_under_load_lose_no_call() {
    let acme = Domain::new(ACME);
    let say = |workload: &str| answer(vec![acme.svid(workload)], &[]);
    let (servers, callers) = (Agent::saying(say("echo")), Agent::saying(say("orders")));
    let theirs = open(Role::Server, servers.api()).unwrap();
    let ours = open(Role::Client, callers.api()).unwrap();
    let address = server(theirs.clone()).await;
    let over = Arc::new(AtomicBool::new(false));
    let (made, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let mut client = client(ours.clone(), address, "spiffe://acme.test/echo");
            let (over, made, lost) = (over.clone(), made.clone(), lost.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    made.fetch_add(1, Ordering::Relaxed);
                    if call(&mut client).await.code() != Code::AlreadyExists {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for rotation in 2..10 {
        servers.says(say("echo"));
        callers.says(say("orders"));
        let both = || {
            [&theirs, &ours]
                .iter()
                .all(|it| it.current().generation() == rotation)
        };
        eventually("a rotation on both sides", both).await;
        let before = made.load(Ordering::Relaxed);
        eventually("calls", || made.load(Ordering::Relaxed) > before + 20).await;
    }
    over.store(true, Ordering::Relaxed);
    for caller in load {
        caller.await.unwrap();
    }
    assert_eq!(lost.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_leaves_the_last_good_and_is_found_again() {
    let acme = Domain::new(ACME);
    let say = |workload: &str| answer(vec![acme.svid(workload)], &[]);
    let mut agent = Agent::saying(say("orders"));
    let trust = open(Role::Client, agent.api()).unwrap();
    let peers = Agent::saying(say("echo"));
    let address = server(open(Role::Server, peers.api()).unwrap()).await;
    let mut client = client(trust.clone(), address, "spiffe://acme.test/echo");
    assert_eq!(call(&mut client).await.code(), Code::AlreadyExists);

    for again in ["kill", "denied"] {
        if again == "kill" {
            agent.kill();
        } else {
            agent.says(Says::Denied);
        }
        eventually("it is said", || is_refused(&trust)).await;
        assert_eq!(own(&trust), "spiffe://acme.test/orders");
        assert_eq!(call(&mut client).await.code(), Code::AlreadyExists);
        let before = trust.current().generation();
        agent.says(say("orders"));
        if again == "kill" {
            agent.start();
        }
        eventually("the new one", || trust.current().generation() > before).await;
        eventually("all is well", || !is_refused(&trust)).await;
        assert_eq!(call(&mut client).await.code(), Code::AlreadyExists);
    }
}

#[test]
fn an_agent_that_nobody_reads_any_more_is_left_alone() {
    let acme = Domain::new(ACME);
    let agent = Agent::saying(answer(vec![acme.svid("orders")], &[]));
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")));
        let ours = names.filter(|name| name.as_ref().is_ok_and(|it| it.trim() == "workload-api"));
        ours.count()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inside = runtime.enter();
    let before = threads();
    let trust = open(Role::Client, agent.api()).unwrap();
    assert!(threads() >= 1);
    drop(trust);
    runtime.block_on(eventually("the thread ends", || threads() <= before));
    drop(inside);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_identities_the_one_that_is_asked_for_is_ours() {
    let acme = Domain::new(ACME);
    let mut hinted = acme.svid("payments");
    hinted.hint = "internal".to_owned();
    let svids = vec![acme.svid("orders"), acme.svid("billing"), hinted];
    let agent = Agent::saying(answer(svids, &[]));
    for (wanted, expected) in [
        (None, "spiffe://acme.test/orders"),
        (
            Some("spiffe://acme.test/billing"),
            "spiffe://acme.test/billing",
        ),
        (Some("internal"), "spiffe://acme.test/payments"),
    ] {
        let wanted: Wanted = wanted.map_or(Wanted::First, |wanted| wanted.parse().unwrap());
        let trust = open(Role::Client, agent.api().with_svid(wanted)).unwrap();
        assert_eq!(own(&trust), expected);
    }
    let short = agent.api().with_patience(Duration::from_millis(300));
    let absent = short.with_svid("external".parse().unwrap());
    let error = open(Role::Client, absent).unwrap_err();
    assert_eq!(error.code(), "SVID_NOT_FOUND");
    let text = error.to_string();
    for said in ["\"external\"", "spiffe://acme.test/payments (internal)"] {
        assert!(text.contains(said), "{text}");
    }
    assert!("spiffe://acme.test".parse::<Wanted>().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_socket_the_error_names_it() {
    let agent = Agent::absent();
    let api = agent.api().with_patience(Duration::from_millis(300));
    let error = open(Role::Server, api).map(|_trust| ()).unwrap_err();
    assert_eq!(error.code(), "WORKLOAD_API_UNREACHABLE");
    assert!(error.to_string().contains(&agent.address()), "{error}");
    for (address, reason) in [
        ("tcp://127.0.0.1:8081", "anybody on the network"),
        ("/run/agent.sock", "does not begin with unix:"),
        ("unix://run/agent.sock", "has a host"),
        ("unix:run/agent.sock", "not absolute"),
        ("unix:///", "not absolute"),
        ("unix:///run/agent.sock?x", "a query"),
    ] {
        let error = address.parse::<WorkloadApi>().unwrap_err().to_string();
        assert!(error.contains(reason), "{address}: {error}");
    }
}
