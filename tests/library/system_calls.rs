//! What an allowed call asks of the system, counted by strace: it repeats, where a time would not.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use test_contract::v1::EchoRequest;

use crate::world::{Pki, Server, skipped};

const CALLS: u32 = 500;

/// Of one call that is alone on its connection: the socket is read, read again to know that it is empty, written to, and
/// waited for.
const OF_A_CALL: f64 = 4.0;

#[tokio::test]
async fn an_allowed_call_needs_no_more_system_calls_than_its_socket_does() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--tls-reload-interval", "1h"]);
    let mut orders = pki.client("orders", server.address);
    let mut call = async || {
        let text = "hello".to_owned();
        orders.echo(EchoRequest { text }).await.unwrap();
    };
    // The connection, and what is made once.
    for _ in 0..10 {
        call().await;
    }
    let trace = pki.dir.path().join("trace");
    let id = server.id().to_string();
    let strace = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&trace)
        .args(["-p", &id])
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut strace) = strace else {
        return skipped("strace: the system calls of an allowed call");
    };
    let mut says = BufReader::new(strace.stderr.take().unwrap()).lines();
    let first = says.next().and_then(Result::ok).unwrap_or_default();
    if !first.contains("attached") {
        strace.wait().unwrap();
        return skipped(&format!("the system calls of an allowed call: {first}"));
    }
    for _ in 0..CALLS {
        call().await;
    }
    let stop = Command::new("kill").arg(strace.id().to_string()).status();
    assert!(stop.unwrap().success());
    strace.wait().unwrap();

    let mut counted = BTreeMap::<String, u32>::new();
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        // "PID name(arguments) = result"; a call that another thread interrupts has a second line without its name.
        let call = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        if let Some((name, _)) = call.split_once('(') {
            *counted.entry(name.to_owned()).or_default() += 1;
        }
    }
    let each = f64::from(counted.values().sum::<u32>()) / f64::from(CALLS);
    assert!(each >= 2.0, "strace saw too little: {counted:?}");
    // What the server does beside the calls has some room.
    assert!(each < OF_A_CALL + 1.0, "{each} system calls: {counted:?}");
}
