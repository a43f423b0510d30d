//! Signals to stop that come before a server serves: none is lost, also not for the first process of a container, which
//! the system spares the signals that it does not listen to.

use std::fs;
use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;

use crate::world::{Ending, Log, eventually, in_repository, program, skipped};

/// Less than a server waits for the agent of a Workload API, and more than it takes to end.
const SOON: Duration = Duration::from_secs(6);

/// Starts the server by this command line, asks it to stop while an agent keeps it waiting, and gives how it ended.
async fn stopped_while_an_agent_is_silent(words: &[&str]) -> (ExitStatus, Log) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let agent = UnixListener::bind(&socket).unwrap();
    let (first, rest) = words.split_first().unwrap();
    let child = in_repository(Command::new(first))
        .args(rest)
        .env(
            "APP_TLS_WORKLOAD_API",
            format!("unix://{}", socket.display()),
        )
        .env("APP_LISTEN_ADDR", "127.0.0.1:0")
        .env("APP_ADMIN_ADDR", "off")
        .env("APP_LOG_FORMAT", "json")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let log = Log::of(child.0.stderr.take().unwrap());

    let asked = tokio::time::timeout(SOON, agent.accept()).await;
    let (asking, _) = asked.unwrap().unwrap();
    let server = asking.peer_cred().unwrap().pid().unwrap();
    let sent = Command::new("kill")
        .args(["-TERM", &server.to_string()])
        .status();
    assert!(sent.unwrap().success());
    let sent = Instant::now();
    let ended = eventually("the server ends", || child.0.try_wait().unwrap());
    assert!(sent.elapsed() < SOON, "{words:?}: {:?}", sent.elapsed());
    (ended, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_ends_when_it_is_asked_to_and_a_check_has_then_no_result() {
    let server = program("echo-server");
    let server = server.to_str().unwrap();
    let (ended, log) = stopped_while_an_agent_is_silent(&[server]).await;
    assert_eq!(ended.code(), Some(0));
    log.wait(|line| line["message"] == "asked to stop");

    let (ended, log) = stopped_while_an_agent_is_silent(&[server, "check"]).await;
    assert_eq!(ended.code(), Some(1));
    log.wait(|line| line == "error: asked to stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_process_of_a_container_ends_too() {
    let container = ["unshare", "--pid", "--fork", "--kill-child"];
    let possible = Command::new(container[0])
        .args(&container[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|ended| ended.success()) {
        return skipped("right to make a process the first of its own namespace (unshare)");
    }
    let server = program("echo-server");
    let words = [&container[..], &[server.to_str().unwrap()]].concat();
    let (ended, log) = stopped_while_an_agent_is_silent(&words).await;
    assert_eq!(ended.code(), Some(0));
    log.wait(|line| line["message"] == "asked to stop");
}

#[test]
fn signals_are_listened_to_before_the_settings_are_read() {
    /// What a pipe takes (pipe(7)).
    const FULL: usize = 64 << 10;
    const SIGTERM: u64 = 1 << (15 - 1);
    if !std::path::Path::new("/proc/self/status").exists() {
        return skipped("/proc, which tells what a process listens to");
    }
    // Help that nobody reads keeps the process at its settings.
    let (unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&[0; FULL]).unwrap();
    let child = Command::new(program("echo-server"))
        .arg("--help")
        .stdout(full)
        .spawn();
    let child = Ending(child.unwrap());
    eventually("SIGTERM is listened to", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
        let caught = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        (caught & SIGTERM != 0).then_some(())
    });
    drop(unread);
}
