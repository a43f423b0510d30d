//! Identity and trust from an agent alone, without any file: what is taken, what is kept, and what is refused.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cli::pki::Revocation;
use countersign::identity::Role;
use countersign::mtls::{
    self, Channel, ChannelOptions, Limits, MissingCrls, Reload, ServerIdentity, Source, Target,
    Trust, Wanted, WorkloadApi,
};
use http::{Request, Response};
use pki_types::CertificateRevocationListDer;
use pki_types::pem::PemObject as _;
use prometheus_client::registry::Registry;
use serde_json::Value;
use test_contract::v1::EchoRequest;
use test_contract::v1::echo_service_client::EchoServiceClient;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::{Code, Status};

mod agent;

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

/// The example `serve` as a process, and the lines of its log.
struct Serve {
    child: Child,
    lines: Receiver<Value>,
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Serve {
    fn start(variables: &[(&str, &str)], policy: &Path) -> Self {
        let here = std::env::current_exe().unwrap();
        let profile = here.parent().and_then(Path::parent).unwrap();
        let program = profile.join("examples/serve");
        assert!(
            program.exists(),
            "build it: cargo build -p countersign --example serve"
        );
        let mut child = Command::new(program)
            .env_remove("SPIFFE_ENDPOINT_SOCKET")
            .env("APP_LISTEN_ADDR", "127.0.0.1:0")
            .env("APP_ADMIN_ADDR", "off")
            .env("APP_LOG_FORMAT", "json")
            .env("APP_TLS_RELOAD_INTERVAL", "100ms")
            .env("APP_AUTHZ_POLICY_FILE", policy)
            .env("RUST_LOG", "info")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let written = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            written
                .map_while(Result::ok)
                .filter_map(|line| serde_json::from_str(&line).ok())
                .try_for_each(|line| send.send(line))
        });
        Self { child, lines }
    }

    /// The lines up to the next one with this message, which is the last of them.
    fn logged(&self, message: &str) -> Vec<Value> {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {message:?} after {before:?}"));
            let found = line["message"] == message;
            before.push(line);
            if found {
                return before;
            }
        }
    }

    fn address(&self) -> SocketAddr {
        let listening = self.logged("listening");
        let address = listening.last().unwrap()["address"].as_str().unwrap();
        address.parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_callers_live_by_their_agents_alone() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"name": "echo", "allow_rules": [
            {"name": "orders", "source": {"principals": ["spiffe://acme.test/orders"]}}]}"#,
    )
    .unwrap();
    let acme = Domain::new(ACME);
    let servers = Agent::saying(answer(vec![acme.svid("echo")], &[]));
    for variable in ["APP_TLS_WORKLOAD_API", "SPIFFE_ENDPOINT_SOCKET"] {
        let serve = Serve::start(&[(variable, &servers.address())], &policy);
        let address = serve.address();
        for (workload, code) in [("orders", Code::Ok), ("marketing", Code::PermissionDenied)] {
            let callers = Agent::saying(answer(vec![acme.svid(workload)], &[]));
            let trust = open(Role::Client, callers.api()).unwrap();
            let mut client = client(trust, address, "spiffe://acme.test/echo");
            let text = "hello".to_owned();
            let called = client.echo(EchoRequest { text }).await;
            let got = called.map_or_else(|status| status.code(), |_answer| Code::Ok);
            assert_eq!(got, code, "{workload}");
        }
    }
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
async fn a_peer_is_verified_by_the_roots_of_its_own_trust_domain() {
    let (acme, partner, other) = (
        Domain::new(ACME),
        Domain::new(PARTNER),
        Domain::new("other.test"),
    );
    let second_root = Domain::new(PARTNER);
    let agent = Agent::saying(answer(vec![acme.svid("echo")], &[&partner]));
    let trust = open(Role::Server, agent.api()).unwrap();
    let judge = |role, domain: &Domain, uris: &[&str]| {
        let leaf = domain.leaf(uris);
        let snapshot = trust.current();
        let verdict = snapshot
            .authorities()
            .judge(role, &leaf.chain, SystemTime::now());
        verdict.map_or_else(|refusal| refusal.code(), |_peer| "accepted")
    };
    let (ours, theirs) = ("spiffe://acme.test/orders", "spiffe://partner.test/shop");
    for role in [Role::Client, Role::Server] {
        for (case, signer, uris, expected) in [
            ("ours by our root", &acme, &[ours][..], "accepted"),
            ("theirs by their root", &partner, &[theirs], "accepted"),
            (
                "ours by their root",
                &partner,
                &[ours],
                "TRUST_DOMAIN_MISMATCH",
            ),
            (
                "theirs by our root",
                &acme,
                &[theirs],
                "TRUST_DOMAIN_MISMATCH",
            ),
            (
                "theirs by a root that they do not have",
                &second_root,
                &[theirs],
                "BAD_SIGNATURE",
            ),
            (
                "theirs by a root that nobody has",
                &other,
                &[theirs],
                "UNKNOWN_ISSUER",
            ),
            (
                "ours by a root that nobody has",
                &other,
                &[ours],
                "UNKNOWN_ISSUER",
            ),
            (
                "a domain without a bundle",
                &other,
                &["spiffe://other.test/a"],
                "TRUST_DOMAIN_UNKNOWN",
            ),
            (
                "a domain without a bundle, by our root",
                &acme,
                &["spiffe://other.test/a"],
                "TRUST_DOMAIN_UNKNOWN",
            ),
            (
                "a part of our domain's name",
                &acme,
                &["spiffe://acme.test.evil/a"],
                "TRUST_DOMAIN_UNKNOWN",
            ),
            ("no SPIFFE ID", &acme, &[], "SPIFFE_ID_MISSING"),
            (
                "another URI",
                &acme,
                &["https://acme.test/orders"],
                "SPIFFE_ID_MISSING",
            ),
            (
                "an ID in capitals",
                &acme,
                &["spiffe://ACME.TEST/orders"],
                "SPIFFE_ID_MISSING",
            ),
            ("two IDs", &acme, &[ours, theirs], "SPIFFE_ID_MISSING"),
            (
                "an ID beside another URI",
                &acme,
                &[ours, "https://acme.test"],
                "SPIFFE_ID_MISSING",
            ),
        ] {
            assert_eq!(judge(role, signer, uris), expected, "{case}, as {role:?}");
        }
    }
    let leaf = partner.leaf(&[ours]);
    let refused = trust.current();
    let refused = refused
        .authorities()
        .judge(Role::Client, &leaf.chain, SystemTime::now());
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("acme.test") && text.contains("its root is of partner.test"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn federation_begins_and_ends_with_the_bundle() {
    let (acme, partner) = (Domain::new(ACME), Domain::new(PARTNER));
    let servers = Agent::saying(answer(vec![acme.svid("echo")], &[]));
    let theirs = open(Role::Server, servers.api()).unwrap();
    let address = server(theirs.clone()).await;
    let callers = Agent::saying(answer(vec![partner.svid("shop")], &[&acme]));
    let caller = || {
        let trust = open(Role::Client, callers.api()).unwrap();
        client(trust, address, "spiffe://acme.test/echo")
    };
    let refused = call(&mut caller()).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");

    let generation = theirs.current().generation();
    servers.says(answer(vec![acme.svid("echo")], &[&partner]));
    eventually("the bundle", || theirs.current().generation() > generation).await;
    let mut allowed = caller();
    assert_eq!(call(&mut allowed).await.code(), Code::AlreadyExists);

    // A connection that is open is judged again.
    let leaf = partner.leaf(&["spiffe://partner.test/shop"]);
    let snapshot = theirs.current();
    let peer = snapshot
        .authorities()
        .judge(Role::Client, &leaf.chain, SystemTime::now());
    let peer = peer.unwrap();
    let lost = mtls::lease_lost(&theirs, &peer, &leaf.chain);
    servers.says(answer(vec![acme.svid("echo")], &[]));
    let lost = tokio::time::timeout(PATIENCE, lost).await.unwrap();
    assert_eq!(lost.code(), "TRUST_DOMAIN_UNKNOWN");
    let refused = call(&mut caller()).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
}

/// What an agent may say that must not be used, and the code of it.
fn bad(acme: &Domain, partner: &Domain) -> Vec<(&'static str, Says, &'static str)> {
    let good = || acme.svid("orders");
    let says = |svid| Says::from(answer(vec![svid], &[]));
    let with = |change: fn(&mut test_contract::X509svid)| {
        let mut svid = acme.svid("orders");
        change(&mut svid);
        says(svid)
    };
    let mut foreign_key = good();
    foreign_key.x509_svid_key = good().x509_svid_key;
    let mut of_another = good();
    of_another.spiffe_id = "spiffe://acme.test/admin".to_owned();
    let mut foreign_roots = good();
    foreign_roots.bundle = partner.bundle();
    let mut leaf_as_root = good();
    leaf_as_root.bundle = leaf_as_root.x509_svid.clone();
    let own_bundle_again = answer(vec![good()], &[&Domain::new(ACME)]);
    let mut many = answer(Vec::new(), &[]);
    many.svids = (0..65)
        .map(|_| test_contract::X509svid::default())
        .collect();
    let mut nameless = answer(vec![good()], &[]);
    nameless
        .federated_bundles
        .insert("partner".to_owned(), partner.bundle());
    let mut bad_list = answer(vec![good()], &[]);
    bad_list.crl = vec![b"list".to_vec()];
    let raw = |bytes: &'static [u8]| Says::Message(Bytes::from_static(bytes));
    vec![
        ("refused", Says::Denied, "WORKLOAD_API_DENIED"),
        ("a foreign key", says(foreign_key), "KEY_MISMATCH"),
        ("the ID of another", says(of_another), "SVID_WRONG_ID"),
        (
            "a bundle without roots",
            with(|it| it.bundle.clear()),
            "BUNDLE_EMPTY",
        ),
        ("a bundle of others", says(foreign_roots), "UNKNOWN_ISSUER"),
        (
            "a bundle that is a leaf",
            says(leaf_as_root),
            "CERTIFICATE_MALFORMED",
        ),
        (
            "no chain",
            with(|it| it.x509_svid.clear()),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "no key",
            with(|it| it.x509_svid_key.clear()),
            "KEY_UNUSABLE",
        ),
        (
            "no ID",
            with(|it| it.spiffe_id.clear()),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "a chain that is no DER",
            with(|it| it.x509_svid = b"no".to_vec()),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "a chain of another kind",
            with(|it| it.x509_svid = vec![0x30, 0]),
            "CERTIFICATE_MALFORMED",
        ),
        (
            "no SVID",
            Says::from(answer(Vec::new(), &[])),
            "SVID_NOT_FOUND",
        ),
        (
            "a list that is none",
            Says::from(bad_list),
            "CRL_UNSUPPORTED",
        ),
        (
            "a second bundle of ours",
            Says::from(own_bundle_again),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "a bundle of nobody",
            Says::from(nameless),
            "WORKLOAD_API_MALFORMED",
        ),
        ("too many SVIDs", Says::from(many), "WORKLOAD_API_MALFORMED"),
        (
            "garbage",
            raw(b"\xff\xff\xff\xff garbage"),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "5 MiB",
            Says::Message(vec![0; 5 << 20].into()),
            "WORKLOAD_API_MALFORMED",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_amiss_is_an_error_at_the_start_and_leaves_the_last_good_later() {
    let (acme, partner) = (Domain::new(ACME), Domain::new(PARTNER));
    let good = || answer(vec![acme.svid("orders")], &[]);
    for (case, says, code) in bad(&acme, &partner) {
        let agent = Agent::saying(says.clone());
        let impatient = || agent.api().with_patience(Duration::from_millis(400));
        for role in [Role::Server, Role::Client] {
            let error = open(role, impatient()).map(|_trust| ()).unwrap_err();
            assert_eq!(error.code(), code, "{case}: {error}");
            assert!(
                error.to_string().contains(&agent.address()),
                "{case}: {error}"
            );
        }

        agent.says(good());
        let trust = open(Role::Client, agent.api()).unwrap();
        let before = trust.current();
        agent.says(says);
        eventually(case, || is_refused(&trust)).await;
        let now = trust.current();
        let is = if case == "a bundle of others" {
            "root"
        } else {
            "spiffe://acme.test/orders"
        };
        assert!(own(&trust).contains(is), "{case}: {}", own(&trust));
        // No fault of the roots or of a list holds back an SVID that is sound.
        let is_sound = [
            "a bundle without roots",
            "a bundle that is a leaf",
            "a list that is none",
        ];
        assert_eq!(
            now.chain() != before.chain(),
            is_sound.contains(&case),
            "{case}"
        );
        let believes = |domain: &Domain, id| {
            let chain = domain.leaf(&[id]).chain;
            let judged = now
                .authorities()
                .judge(Role::Client, &chain, SystemTime::now());
            judged.is_ok()
        };
        if case != "a bundle of others" {
            assert!(believes(&acme, "spiffe://acme.test/a"), "{case}");
        }
        assert!(!believes(&partner, "spiffe://partner.test/a"), "{case}");

        agent.says(good());
        eventually(case, || trust.current().chain() != before.chain()).await;
        eventually(case, || !is_refused(&trust)).await;
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_federated_bundle_that_is_bad_keeps_its_own_last_good_and_holds_nobody_back() {
    let (acme, partner) = (Domain::new(ACME), Domain::new(PARTNER));
    let agent = Agent::saying(answer(vec![acme.svid("echo")], &[&partner]));
    let trust = open(Role::Server, agent.api()).unwrap();
    let mut broken = answer(vec![acme.svid("echo")], &[]);
    let name = format!("spiffe://{PARTNER}");
    broken.federated_bundles.insert(name, vec![0x30, 0]);
    let before = trust.current();
    agent.says(broken.clone());
    eventually("our new SVID", || trust.current().chain() != before.chain()).await;
    eventually("the fault is said", || is_refused(&trust)).await;
    let chain = partner.leaf(&["spiffe://partner.test/shop"]).chain;
    let judge = |trust: &Trust| {
        let snapshot = trust.current();
        let judged = snapshot
            .authorities()
            .judge(Role::Client, &chain, SystemTime::now());
        judged.map_or_else(|refusal| refusal.code(), |_peer| "accepted")
    };
    assert_eq!(judge(&trust), "accepted");

    // At a start there is no last good one, and no peer of that domain is accepted until there is.
    let trust = open(Role::Server, agent.api()).unwrap();
    assert_eq!(judge(&trust), "TRUST_DOMAIN_UNKNOWN");
    eventually("the fault is said", || is_refused(&trust)).await;
    agent.says(answer(vec![acme.svid("echo")], &[&partner]));
    eventually("the bundle", || judge(&trust) == "accepted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_answers_a_second_are_one_line_and_the_last_of_them_counts() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"name": "echo", "allow_rules": [{"name": "all"}]}"#,
    )
    .unwrap();
    let acme = Domain::new(ACME);
    let good = || answer(vec![acme.svid("echo")], &[]);
    let agent = Agent::saying(good());
    let serve = Serve::start(&[("APP_TLS_WORKLOAD_API", &agent.address())], &policy);
    serve.logged("listening");

    let garbage = Says::Message(Bytes::from_static(b"\xff\xff\xff\xff garbage"));
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..200 {
        tick.tick().await;
        agent.says(garbage.clone());
    }
    agent.says(good());
    let lines = serve.logged("new credentials are available again");
    let said: Vec<_> = lines
        .iter()
        .filter(|line| line["level"] == "ERROR")
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["code"], "WORKLOAD_API_MALFORMED", "{said:?}");

    let rotations: Vec<_> = (0..20).map(|_| good()).collect();
    let began = Instant::now();
    for rotation in rotations.iter().cycle().take(200) {
        tick.tick().await;
        agent.says(rotation.clone());
    }
    let last = good();
    let leaf = acme.leaf(&["spiffe://acme.test/echo"]);
    let last_serial = leaf.serial.to_string();
    agent.says(answer(
        vec![acme.svid_of(&last.svids[0].spiffe_id, &leaf)],
        &[],
    ));
    let mut taken = 0;
    loop {
        let line = serve.logged("credentials in use").pop().unwrap();
        taken += 1;
        if line["serial"] == last_serial {
            break;
        }
    }
    // Three looks in each interval of 100 ms.
    let most = began.elapsed().as_millis() / 30 + 2;
    assert!(taken <= most, "{taken} of 200, at most {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_an_agent_revoke() {
    let acme = Domain::new(ACME);
    let now = OffsetDateTime::now_utc();
    let minute = time::Duration::minutes(1);
    let orders = acme.leaf(&["spiffe://acme.test/orders"]);
    let list = |number, revoked: &[Revocation]| {
        let list = acme
            .root
            .crl(number, revoked, now - minute, now + 60 * minute);
        let list = CertificateRevocationListDer::from_pem_slice(list.unwrap().as_bytes());
        list.unwrap().to_vec()
    };
    let mut says = answer(vec![acme.svid("echo")], &[]);
    says.crl = vec![list(1, &[])];
    let agent = Agent::saying(says.clone());
    let trust = open(Role::Server, agent.api()).unwrap();
    let judge = || {
        let snapshot = trust.current();
        let judged = snapshot
            .authorities()
            .judge(Role::Client, &orders.chain, SystemTime::now());
        judged.map_or_else(|refusal| refusal.code(), |_peer| "accepted")
    };
    assert_eq!(judge(), "accepted");
    let revocation = Revocation {
        serial: orders.serial.clone(),
        at: now - minute,
    };
    says.crl = vec![list(2, &[revocation])];
    agent.says(says.clone());
    eventually("the new list", || judge() == "CERTIFICATE_REVOKED").await;
    for (case, lists) in [("older", vec![list(1, &[])]), ("gone", Vec::new())] {
        says.crl = lists;
        agent.says(says.clone());
        eventually(case, || is_refused(&trust)).await;
        assert_eq!(judge(), "CERTIFICATE_REVOKED", "{case}");
    }

    let required = || {
        let reload = Reload {
            missing_crls: MissingCrls::Refuse,
            ..reload()
        };
        Trust::open(Role::Server, Source::workload_api(agent.api()), reload)
    };
    assert_eq!(
        required().map(|_trust| ()).unwrap_err().code(),
        "CRL_REQUIRED"
    );
    says.crl = vec![list(3, &[])];
    agent.says(says);
    eventually("the list", || required().is_ok()).await;
}
