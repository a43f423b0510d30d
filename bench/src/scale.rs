//! What many connections, streams, rules and revoked certificates cost: figures of one run, beside stock tonic where that
//! has the same.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateRevocationListParams, Issuer, KeyPair, RevokedCertParams, SerialNumber};
use time::OffsetDateTime;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::load::{Caller, Ended, call};
use crate::{Lab, Subject, cpu_micros, memory_kib};

const CONNECTIONS: usize = 10_000;
/// Connections of `orders`, `auditor` and `catalog`, and the streams of each.
const STREAMS: [(&str, usize); 3] = [("orders", 400), ("auditor", 300), ("catalog", 300)];
const STREAMS_EACH: usize = 10;
const REVOKED: u64 = 100_000;
/// Calls a second.
const PACE: u32 = 2_000;

/// Flags of a server that is to hold many connections of few callers.
const MANY: [&str; 8] = [
    "--max-concurrent-calls",
    "19000",
    "--max-concurrent-calls-per-peer",
    "19000",
    "--max-connection-idle",
    "1h",
    "--tls-reload-interval",
    "50ms",
];

/// The table, as Markdown.
pub async fn table(lab: &Lab) -> Result<String> {
    let mut table = String::from("| | this server | stock tonic |\n|---|---|---|\n");
    idle(lab, &mut table).await?;
    paced(lab, &mut table).await?;
    workers(lab, &mut table).await?;
    channel(lab, &mut table).await?;
    streams(lab, &mut table).await?;
    revoked(lab, &mut table).await?;
    Ok(table)
}

fn id(child: &Child) -> Result<u32> {
    child.id().context("the server ended")
}

async fn idle(lab: &Lab, table: &mut String) -> Result<()> {
    let mut row = format!("| {CONNECTIONS} idle connections: memory of each, processor time");
    for subject in [Subject::Ours, Subject::Stock] {
        eprintln!("{CONNECTIONS} idle connections");
        let (mut child, caller) = lab.start_with(&[], subject, &MANY).await?;
        let id = id(&child)?;
        let memory = memory_kib(id)?;
        let _idle = caller.idle(CONNECTIONS).await?;
        sleep(Duration::from_secs(2)).await;
        let each = (memory_kib(id)? - memory) / CONNECTIONS as f64;
        let cpu = cpu_micros(id)?;
        sleep(Duration::from_secs(5)).await;
        let share = (cpu_micros(id)? - cpu) / 5e6 * 100.0;
        write!(row, " | {each:.1} KiB, {share:.1} % of a core")?;
        child.kill().await?;
    }
    writeln!(table, "{row} |")?;
    Ok(())
}

async fn paced(lab: &Lab, table: &mut String) -> Result<()> {
    let mut row = format!("| {PACE} calls a second on 4 connections: half within, 99 % within");
    for subject in [Subject::Ours, Subject::Stock] {
        eprintln!("{PACE} calls a second");
        let (mut child, caller) = lab.start(subject).await?;
        let times = pace(&caller, PACE, Instant::now() + lab.time.mul_f64(2.0)).await?;
        write!(row, " | {}", halves(times))?;
        child.kill().await?;
    }
    writeln!(table, "{row} |")?;
    Ok(())
}

/// How long each call took.
async fn pace(caller: &Caller, a_second: u32, end: Instant) -> Result<Vec<Duration>> {
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(caller.connect().await?);
    }
    let (mut calls, mut times) = (JoinSet::new(), Vec::new());
    let (begin, pause) = (Instant::now(), Duration::from_secs(1) / a_second);
    for n in 0.. {
        let due = begin + pause * n;
        if due >= end {
            break;
        }
        sleep_until(due).await;
        let mut send = connections[n as usize % connections.len()].clone();
        calls.spawn(async move {
            let began = Instant::now();
            call(&mut send).await.map(|()| began.elapsed())
        });
        while let Some(done) = calls.try_join_next() {
            times.push(done??);
        }
    }
    while let Some(done) = calls.join_next().await {
        times.push(done??);
    }
    Ok(times)
}

fn halves(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!("{:.2} ms, {:.2} ms", at(0.5), at(0.99))
}

async fn workers(lab: &Lab, table: &mut String) -> Result<()> {
    let mut costs = Vec::new();
    for workers in ["1", "2"] {
        eprintln!("{workers} worker threads");
        let flags = ["--worker-threads", workers];
        let (mut child, caller) = lab.start_with(&[], Subject::Ours, &flags).await?;
        let cpu = cpu_micros(id(&child)?)?;
        let done = caller.calls(4, 16, lab.time).await?;
        costs.push((cpu_micros(id(&child)?)? - cpu) / done as f64);
        child.kill().await?;
    }
    writeln!(
        table,
        "| processor time of a call with 1 and with 2 worker threads | {:.1} µs, {:.1} µs | |",
        costs[0], costs[1]
    )?;
    Ok(())
}

/// Our client beside the channel of tonic, both against our server.
async fn channel(lab: &Lab, table: &mut String) -> Result<()> {
    let (mut child, caller) = lab.start(Subject::Ours).await?;
    let mut row =
        "| processor time of a call in the client, 16 at once on one connection".to_owned();
    for kind in ["ours", "stock"] {
        eprintln!("the client, {kind}");
        let done = Command::new(std::env::current_exe()?.with_file_name("caller"))
            .arg(kind)
            .arg(&caller.address)
            .arg(lab.dir.join("certs/orders"))
            .arg(lab.time.as_secs_f64().to_string())
            .output()
            .await?;
        ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let micros: f64 = String::from_utf8(done.stdout)?.trim().parse()?;
        write!(row, " | {micros:.1} µs")?;
    }
    writeln!(table, "{row} |")?;
    child.kill().await?;
    Ok(())
}

fn policy(watchers: &[&str]) -> String {
    let rule = |name: &str, callers: &[&str], method: &str| {
        let principals = callers
            .iter()
            .map(|caller| format!("\"spiffe://acme.test/{caller}\""))
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            r#"{{"name": "{name}", "source": {{"principals": [{principals}]}},
                "request": {{"paths": ["/grpc.health.v1.Health/{method}"]}}}}"#
        )
    };
    format!(
        r#"{{"name": "scale", "allow_rules": [{}, {}]}}"#,
        rule("check", &["orders", "auditor", "catalog"], "Check"),
        rule("watch", watchers, "Watch")
    )
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, text)?;
    Ok(std::fs::rename(next, path)?)
}

/// Streams that a policy and a revocation list end, beside others that go on.
async fn streams(lab: &Lab, table: &mut String) -> Result<()> {
    eprintln!("streams");
    let file = lab.dir.join("policy.json");
    let list = lab.dir.join("listed/crl.pem");
    replace(&file, &policy(&["orders", "auditor", "catalog"]))?;
    let flags = [&MANY[..], &["--policy", file.to_str().context("a path")?]].concat();
    let (mut child, orders) = lab.start_with(&[], Subject::OursWithList, &flags).await?;
    let id = id(&child)?;
    let memory = memory_kib(id)?;
    let mut watching = Vec::new();
    let mut held = Vec::new();
    for (name, connections) in STREAMS {
        let caller = Caller::new(&orders.address, &lab.dir.join("certs").join(name))?;
        let mut streams = JoinSet::new();
        for _ in 0..connections {
            let send = caller.connect().await?;
            for _ in 0..STREAMS_EACH {
                caller.watch(&send, &mut streams).await?;
            }
            held.push(send);
        }
        watching.push(streams);
    }
    let count = held.len() * STREAMS_EACH;
    let each = (memory_kib(id)? - memory) / count as f64;
    writeln!(
        table,
        "| {count} open streams on {} connections: memory of each, with its share of the connection | {each:.1} KiB | |",
        held.len()
    )?;
    let calm = pace(&orders, 500, Instant::now() + lab.time).await?;

    let lists = ["policy", "list"];
    for (what, streams) in lists.into_iter().zip(watching.iter_mut().skip(1)) {
        eprintln!("a new {what}");
        let beside = tokio::spawn({
            let orders = orders.clone();
            let end = Instant::now() + Duration::from_secs(4);
            async move { pace(&orders, 500, end).await }
        });
        sleep(Duration::from_secs(1)).await;
        let (file, text) = match what {
            "policy" => (&file, policy(&["orders", "catalog"])),
            _ => (&list, lab.revoke("catalog")?),
        };
        let (cpu, began) = (cpu_micros(id)?, Instant::now());
        replace(file, &text)?;
        let mut ends = Vec::new();
        while let Some(ended) = streams.join_next().await {
            let Ended { at, status } = ended??;
            ensure!(status != Some(0), "a stream ended with OK");
            ends.push(at - began);
        }
        let cpu = (cpu_micros(id)? - cpu) / 1e3;
        writeln!(
            table,
            "| a new {what} that ends {} of them: from the rename to the end of a stream, half within, 99 % within; processor time | {}; {cpu:.0} ms | |",
            ends.len(),
            halves(ends)
        )?;
        writeln!(
            table,
            "| meanwhile, 500 calls a second of another caller: half within, 99 % within (before: {}) | {} | |",
            halves(calm.clone()),
            halves(beside.await??)
        )?;
    }
    ensure!(
        watching[0].try_join_next().is_none(),
        "a stream of another caller ended"
    );
    child.kill().await?;
    Ok(())
}

/// A list of many revoked certificates, taken while the server runs.
async fn revoked(lab: &Lab, table: &mut String) -> Result<()> {
    eprintln!("a list of {REVOKED} certificates");
    let (mut child, caller) = lab
        .start_with(
            &[],
            Subject::OursWithList,
            &["--tls-reload-interval", "50ms"],
        )
        .await?;
    let id = id(&child)?;
    let small = handshake(lab, &caller, id).await?;
    let list = list_of(REVOKED, &lab.dir.join("certs/ca"))?;
    let before = lab.taken()?;
    let (cpu, began) = (cpu_millis_with_ended_threads(id)?, Instant::now());
    replace(&lab.dir.join("listed/crl.pem"), &list)?;
    while lab.taken()? == before {
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "the list was not taken"
        );
        sleep(Duration::from_millis(5)).await;
    }
    let taken = began.elapsed();
    let cpu = cpu_millis_with_ended_threads(id)? - cpu;
    writeln!(
        table,
        "| a list of {REVOKED} certificates ({} KiB): from the rename until it is in use; processor time | {:.0} ms; {cpu} ms | |",
        list.len() / 1024,
        taken.as_secs_f64() * 1e3
    )?;
    let large = handshake(lab, &caller, id).await?;
    writeln!(
        table,
        "| a handshake and a call with it, as a ratio to a list of one certificate | {:.2} | |",
        large / small
    )?;
    child.kill().await?;
    Ok(())
}

/// Files are read by threads that end. In steps of ten milliseconds.
fn cpu_millis_with_ended_threads(id: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in the stat file")?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut time = || anyhow::Ok(times.next().context("no time")?.parse::<u64>()?);
    Ok((time()? + time()?) * 10)
}

async fn handshake(lab: &Lab, caller: &Caller, id: u32) -> Result<f64> {
    let cpu = cpu_micros(id)?;
    let done = caller.handshakes(8, lab.time).await?;
    Ok((cpu_micros(id)? - cpu) / done as f64)
}

/// A revocation list of the issuing authority in `ca` with this many certificates.
fn list_of(count: u64, ca: &Path) -> Result<String> {
    let read = |name: &str| std::fs::read_to_string(ca.join(name));
    let key = KeyPair::from_pem(&read("issuing.key")?)?;
    let issuer = Issuer::from_ca_cert_pem(&read("issuing.crt")?, key)?;
    let now = OffsetDateTime::now_utc();
    let revoked = |n: u64| RevokedCertParams {
        // As long as most serial numbers are.
        serial_number: SerialNumber::from_slice(&[[1; 8], n.to_be_bytes()].concat()),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: now + Duration::from_secs(86_400),
        crl_number: SerialNumber::from_slice(&[0x7f; 8]),
        issuing_distribution_point: None,
        revoked_certs: (0..count).map(revoked).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(&issuer)?.pem()?)
}
