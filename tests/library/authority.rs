//! Nothing outlives its authority: what happens to open streams, and to new calls, when it is lost.
//!
//! `COUNTERSIGN_LOAD=full` opens 1,000 streams on 50 connections; without, a tenth of it shows the same.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cli::pki::{Authority, Leaf};
use identity::Role;
use mtls::Channel;
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::{ChatRequest, EchoRequest, RecordRequest, WatchRequest, WatchResponse};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::world::{Pki, Server, channel, eventually, hour, repository, spec, validity};

/// What a watcher is told at once.
const FIRST: &str = "first";
const PATIENCE: Duration = Duration::from_secs(30);

#[expect(clippy::print_stdout, reason = "the figure that was measured")]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_identity_loses_every_stream_and_the_others_lose_none() {
    let full = std::env::var_os("COUNTERSIGN_LOAD").is_some_and(|load| load == "full");
    let (connections, streams) = if full { (50, 20) } else { (10, 10) };
    let pki = Pki::new();
    let revoked = pki.issue("orders", &spec("orders"));
    pki.put("echo", "crl.pem", pki.crl(1, &[]));
    let server = Server::start(&pki, &[]);
    let baseline = Usage::of(&server);

    let mut lost = JoinSet::new();
    let mut kept = Vec::new();
    let mut open = Vec::new();
    for number in 0..connections {
        let name = if number % 5 == 0 { "orders" } else { "auditor" };
        let channel = channel(pki.trust(name, Role::Client), server.address);
        for _ in 0..streams {
            let mut levels = watch(&channel).await;
            assert_eq!(next(&mut levels).await.unwrap().text, FIRST);
            if name == "orders" {
                lost.spawn(async move { (end(levels).await, Instant::now()) });
            } else {
                kept.push(levels);
            }
        }
        open.push(channel);
    }

    let revocation = pki.crl(2, &[&revoked]);
    let began = Instant::now();
    pki.put("echo", "crl.pem", revocation);
    let ended = timeout(PATIENCE, lost.join_all()).await.unwrap();
    let mut took: Vec<_> = ended
        .iter()
        .map(|(_, at)| at.duration_since(began))
        .collect();
    took.sort();
    println!(
        "{} of {} streams ended; after the rename of the list: p50 {:.0?}, p99 {:.0?}, last {:.0?}",
        took.len(),
        connections * streams,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
    );
    for (status, _) in &ended {
        assert_eq!(
            reason(status),
            (Code::Unauthenticated, "CERTIFICATE_REVOKED".to_owned())
        );
    }

    record(&pki, &server, "2").await;
    for levels in &mut kept {
        assert_eq!(next(levels).await.unwrap().text, "2");
    }
    drop((kept, open));
    if let Some(baseline) = baseline {
        let after = eventually("the server's descriptors are given back", || {
            Usage::of(&server).filter(|now| now.descriptors <= baseline.descriptors)
        });
        println!("before: {baseline:?}; after: {after:?}");
    }
}

#[expect(clippy::print_stdout, reason = "the figure that was measured")]
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_caller_gets_no_byte_more() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let mut short = spec("orders");
    short.validity = validity(Duration::from_secs(3));
    pki.issue("orders", &short);
    let mut levels = watch(&channel(pki.trust("orders", Role::Client), server.address)).await;

    // As many changes as there can be, so that there always is a byte to send.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let changes = async {
        tokio::pin!(stopped);
        for number in 2.. {
            let text = number.to_string();
            tokio::select! {
                _ = &mut stopped => return number,
                () = record(&pki, &server, &text) => {}
            }
        }
        0
    };
    let watched = async {
        let mut last = SystemTime::now();
        let status = loop {
            match next(&mut levels).await {
                Ok(_) => last = SystemTime::now(),
                Err(status) => break status,
            }
        };
        stop.send(()).unwrap();
        (status, last)
    };
    let (changes, (status, last)) = tokio::join!(changes, watched);
    let ended = SystemTime::now();
    assert_eq!(
        reason(&status),
        (Code::Unauthenticated, "CERTIFICATE_EXPIRED".to_owned())
    );
    let not_after = SystemTime::from(short.validity.not_after);
    assert!(ended >= not_after);
    println!(
        "{changes} changes; the last one that was seen came {:?} before the end of validity, the status {:?} after it",
        not_after.duration_since(last).unwrap_or_default(),
        ended.duration_since(not_after).unwrap(),
    );
    let late = last.duration_since(not_after).unwrap_or_default();
    assert!(late < Duration::from_secs(1), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_rotates_in_time_outlives_each_of_its_certificates() {
    let pki = Pki::new();
    let renew = || {
        let mut short = spec("orders");
        short.validity = validity(Duration::from_secs(4));
        pki.issue("orders", &short);
    };
    let server = Server::start(&pki, &[]);
    renew();
    let trust = pki.trust("orders", Role::Client);
    let mut orders = EchoServiceClient::new(channel(trust.clone(), server.address));
    let began = Instant::now();
    let mut renewed = began;
    // Some of the certificates expire meanwhile.
    while began.elapsed() < Duration::from_secs(10) {
        if renewed.elapsed() > Duration::from_secs(1) {
            renewed = Instant::now();
            renew();
        }
        let request = EchoRequest {
            text: "hello".to_owned(),
        };
        orders.echo(request).await.unwrap();
    }
    assert!(trust.current().generation() >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_expired_list_is_refused_it_ends_open_streams_too() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--tls-refuse-expired-crl"]);
    let orders = channel(pki.trust("orders", Role::Client), server.address);
    let mut levels = watch(&orders).await;
    next(&mut levels).await.unwrap();
    let now = time::OffsetDateTime::now_utc();
    let list = pki.crl_of(1, &[], now, now + Duration::from_secs(3));
    pki.put("echo", "crl.pem", list);
    let status = end(levels).await;
    assert_eq!(
        reason(&status),
        (Code::Unauthenticated, "CRL_EXPIRED".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_server_is_given_up_by_its_callers() {
    let pki = Pki::new();
    let echo = pki.issue("echo", &spec("echo"));
    pki.put("orders", "crl.pem", pki.crl(1, &[]));
    let server = Server::start(&pki, &[]);
    let orders = channel(pki.trust("orders", Role::Client), server.address);
    let auditor = channel(pki.trust("auditor", Role::Client), server.address);
    let (lost, mut kept) = (watch(&orders).await, watch(&auditor).await);
    next(&mut kept).await.unwrap();

    pki.put("orders", "crl.pem", pki.crl(2, &[&echo]));
    let status = end(lost).await;
    assert_eq!(
        reason(&status),
        (Code::Unavailable, "CERTIFICATE_REVOKED".to_owned())
    );
    let again = EchoServiceClient::new(orders)
        .watch(first())
        .await
        .unwrap_err();
    assert_eq!(
        reason(&again),
        (Code::Unavailable, "CERTIFICATE_REVOKED".to_owned())
    );
    assert!(
        again.message().contains("we refused its certificate"),
        "{again}"
    );
    // Whoever has no such list still believes it.
    record(&pki, &server, "2").await;
    assert_eq!(next(&mut kept).await.unwrap().text, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_drops_one_method_ends_its_streams_and_no_other_on_the_same_connection() {
    let pki = Pki::new();
    let policy = pki.dir.path().join("policy.json");
    let shipped = fs::read_to_string(repository().join("tests/library/policy.json")).unwrap();
    put(&policy, &shipped);
    let server = Server::start(&pki, &["--policy", policy.to_str().unwrap()]);

    let orders = channel(pki.trust("orders", Role::Client), server.address);
    let auditor = channel(pki.trust("auditor", Role::Client), server.address);
    let (mut lost, mut kept) = (watch(&orders).await, watch(&auditor).await);
    let (ask, asked) = mpsc::channel(1);
    let opened = EchoServiceClient::new(orders.clone())
        .chat(ReceiverStream::new(asked))
        .await;
    let mut answers = opened.unwrap().into_inner();
    for levels in [&mut lost, &mut kept] {
        next(levels).await.unwrap();
    }

    let mut without: serde_json::Value = serde_json::from_str(&shipped).unwrap();
    let rules = without["allow_rules"].as_array_mut().unwrap();
    let watching = rules
        .iter_mut()
        .find(|rule| rule["name"] == "watch")
        .unwrap();
    watching["source"]["principals"] = serde_json::json!(["spiffe://acme.test/auditor"]);
    put(&policy, &without.to_string());

    let status = loop {
        if let Err(status) = next(&mut lost).await {
            break status;
        }
    };
    assert_eq!(
        reason(&status),
        (Code::PermissionDenied, "POLICY_CHANGED".to_owned())
    );
    // The other stream of the same connection, and the same stream of the other identity, go on.
    let text = "hello".to_owned();
    ask.send(ChatRequest { text }).await.unwrap();
    answers.message().await.unwrap().unwrap();
    record(&pki, &server, "2").await;
    assert_eq!(next(&mut kept).await.unwrap().text, "2");
    let again = EchoServiceClient::new(orders).watch(first()).await;
    assert_eq!(again.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn nobody_comes_back_by_an_old_session() {
    type Loss = fn(&Pki, &Leaf);
    let losses: [(&str, Duration, Loss); 3] = [
        ("revoked", Duration::from_secs(3600), |pki, leaf| {
            pki.put("echo", "crl.pem", pki.crl(2, &[leaf]));
        }),
        ("its root removed", Duration::from_secs(3600), |pki, _| {
            let other = Authority::root("other root", hour()).unwrap();
            pki.put("echo", "ca.crt", other.certificate_pem());
        }),
        ("expired", Duration::from_secs(2), |_, _| {}),
    ];
    for (case, lifetime, lose) in losses {
        let pki = Pki::new();
        pki.put("echo", "crl.pem", pki.crl(1, &[]));
        let server = Server::start(&pki, &[]);
        let mut spec = spec("orders");
        spec.validity = validity(lifetime);
        let leaf = pki.issue("orders", &spec);
        // A client that would resume, if it had been given anything to resume by.
        let config = crate::raw::config(&pki, "orders", &[b"h2"]);
        let mut tls = crate::raw::handshake_with(config.clone(), server.address)
            .await
            .unwrap();
        tls.read_exact(&mut [0; 9]).await.unwrap();
        lose(&pki, &leaf);
        // What was open is closed ...
        let mut rest = Vec::new();
        timeout(PATIENCE, tls.read_to_end(&mut rest))
            .await
            .unwrap()
            .ok();
        // ... and what is new is judged anew.
        let answer = match crate::raw::handshake_with(config, server.address).await {
            Err(refused) => Err(refused),
            Ok(mut tls) => tls.read(&mut [0; 9]).await,
        };
        let alert = answer.unwrap_err().to_string();
        assert!(alert.contains("alert"), "{case}: {alert}");
    }
}

fn first() -> WatchRequest {
    WatchRequest {
        text: FIRST.to_owned(),
    }
}

pub(crate) async fn watch(channel: &Channel) -> Streaming<WatchResponse> {
    let opened = EchoServiceClient::new(channel.clone()).watch(first()).await;
    opened.unwrap().into_inner()
}

/// The next level of a stream that does not end by itself.
pub(crate) async fn next(levels: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    let level = timeout(PATIENCE, levels.message()).await.unwrap();
    level.map(Option::unwrap)
}

pub(crate) async fn end(mut levels: Streaming<WatchResponse>) -> Status {
    loop {
        if let Err(status) = next(&mut levels).await {
            return status;
        }
    }
}

/// Records a text, which every watcher is told.
pub(crate) async fn record(pki: &Pki, server: &Server, text: &str) {
    let text = text.to_owned();
    let mut catalog = pki.client("catalog", server.address);
    catalog.record(RecordRequest { text }).await.unwrap();
}

pub(crate) fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    (
        status.code(),
        info.map(|info| info.reason).unwrap_or_default(),
    )
}

fn put(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(next, path).unwrap();
}

/// What a server holds, where the system tells.
#[derive(Debug)]
struct Usage {
    descriptors: usize,
    #[expect(
        dead_code,
        reason = "a figure to be read, as it depends on the allocator"
    )]
    resident_pages: u64,
}

impl Usage {
    fn of(server: &Server) -> Option<Self> {
        let process = Path::new("/proc").join(server.id().to_string());
        let memory = fs::read_to_string(process.join("statm")).ok()?;
        Some(Self {
            descriptors: fs::read_dir(process.join("fd")).ok()?.count(),
            resident_pages: memory.split(' ').nth(1)?.parse().ok()?,
        })
    }
}
