//! Processes in which something hangs, and that end all the same when they are asked to.
//!
//! Most are this test program again, which runs the function of [`app`] that is meant around something that never ends. One is
//! a server that opens a file on which another process has a lease: its `open` waits until the lease is gone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tonic::Code;

use crate::operations::ask;
use crate::scrape::Scrape;
use crate::world::{Ending, Log, Pki, Server, eventually, skipped};

/// What hangs in the process that is started with this in its environment.
const HANGS: &str = "COUNTERSIGN_TEST_HANGS";

const READY: &str = "ready";

const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

fn workers() -> std::num::NonZeroUsize {
    2.try_into().unwrap()
}

fn say_ready() {
    std::io::stderr().write_all(b"ready\n").unwrap();
}

fn for_ever() {
    loop {
        std::thread::sleep(NEVER);
    }
}

#[test]
fn the_process_in_which_something_hangs() {
    let Ok(what) = std::env::var(HANGS) else {
        return;
    };
    let runtime = countersign::program::runtime(workers()).unwrap();
    let _runtime = runtime.enter();
    match what.as_str() {
        "a file that is read" => {
            let mut stop = countersign::program::stop_signal().unwrap();
            tokio::task::spawn_blocking(for_ever);
            say_ready();
            runtime.block_on(stop.requested());
            countersign::program::shut_down(runtime);
        }
        "the end" => {
            countersign::program::last_resort(Duration::from_millis(100)).unwrap();
            say_ready();
            for_ever();
        }
        "every thread" => {
            countersign::program::last_resort(NEVER).unwrap();
            for _ in 0..workers().get() {
                runtime.spawn(async { for_ever() });
            }
            say_ready();
            for_ever();
        }
        "an end that was begun twice" => {
            let last_resort = countersign::program::last_resort(NEVER).unwrap();
            let mut stop = countersign::program::stop_signal().unwrap();
            say_ready();
            runtime.block_on(stop.requested());
            // The signal and this are one wish to stop.
            last_resort.begin();
            std::thread::sleep(Duration::from_millis(1_500));
        }
        "an end of its own accord" => {
            let last_resort =
                countersign::program::last_resort(Duration::from_millis(100)).unwrap();
            last_resort.begin();
            say_ready();
            for_ever();
        }
        other => panic!("{other}"),
    }
}

/// Starts it, sends the signals, and gives how it ended and what it said.
fn ends(what: &str, signals: &[&str]) -> (ExitStatus, Log) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "hangs::the_process_in_which_something_hangs",
            "--exact",
            "--nocapture",
        ])
        .env(HANGS, what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let log = Log::of(child.0.stderr.take().unwrap());
    log.wait(|line| line == READY);
    for signal in signals {
        let id = child.0.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }
    let ended = eventually("the process ends", || child.0.try_wait().unwrap());
    (ended, log)
}

fn ends_by_force(what: &str, signals: &[&str], because: &str) {
    let (ended, log) = ends(what, signals);
    assert_eq!(ended.code(), Some(1), "{what}");
    log.wait(|line| {
        let said = line.as_str().unwrap_or_default();
        said.starts_with("error: ended by force") && said.contains(because)
    });
}

#[test]
fn a_file_that_hangs_does_not_hold_up_the_end() {
    let (ended, _log) = ends("a file that is read", &["TERM"]);
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn an_end_that_takes_its_time_is_left_alone() {
    let (ended, _log) = ends("an end that was begun twice", &["TERM"]);
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn an_end_that_hangs_is_by_force_when_its_time_is_over() {
    for signal in ["TERM", "INT", "HUP"] {
        ends_by_force("the end", &[signal], "still hung");
    }
    ends_by_force("an end of its own accord", &[], "still hung");
}

#[test]
fn a_second_signal_ends_a_process_of_which_every_thread_hangs() {
    ends_by_force("every thread", &["TERM", "INT"], "asked to stop again");
    ends_by_force("every thread", &["HUP", "TERM"], "asked to stop again");
}

/// Takes a write lease on a file, says so, and keeps it until it ends. The lease is granted only while no other process has the
/// file open. A process that opens it then waits until the lease ends, and the holder gets a SIGIO.
const HOLD: &str = r#"
import fcntl, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], "r+b")
until = time.monotonic() + 10
while True:
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except BlockingIOError:
        if time.monotonic() > until:
            raise
        time.sleep(0.001)
print("held", flush=True)
sys.stdin.read()
"#;

/// Makes every `open` of this file hang until what this gives is dropped, or says why it cannot.
fn hang(file: &Path) -> Result<Ending, String> {
    let child = Command::new("python3")
        .args(["-c", HOLD])
        .arg(file)
        // It ends with this test also when that is killed.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut holder = Ending(child.map_err(|error| format!("python3: {error}"))?);
    let mut said = String::new();
    let mut stdout = BufReader::new(holder.0.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    if said == "held\n" {
        return Ok(holder);
    }
    let mut why = String::new();
    let mut stderr = holder.0.stderr.take().unwrap();
    stderr.read_to_string(&mut why).unwrap();
    Err(why.lines().last().unwrap_or("python3 failed").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_hangs_is_told_and_costs_no_call_and_not_the_end() {
    let pki = Pki::new();
    let mut server = Server::start(&pki, &[]);
    let file = pki.dir("echo").join("ca.crt");
    let successful = || {
        let tls = [("input", "tls")];
        Scrape::of(server.admin).sum("config_last_reload_successful", &tls)
    };
    let told = |line: &Value| {
        let said = line["message"].as_str().unwrap_or_default();
        said.starts_with("reading the credentials takes longer than a reload interval")
    };
    assert_eq!(successful(), 1.0);

    let holder = match hang(&file) {
        Ok(holder) => holder,
        Err(why) => {
            return skipped(&format!(
                "lease on a file, so that reading it hangs ({why})"
            ));
        }
    };
    let line = server.log.wait(told);
    assert_eq!(line["level"], "WARN");
    eventually("the gauge tells", || (successful() == 0.0).then_some(()));
    for _ in 0..3 {
        let answer = ask(&pki, "orders", server.address).await;
        assert_eq!(answer.code(), Code::NotFound, "{answer}");
    }
    assert_eq!(successful(), 0.0);
    assert_eq!(server.log.count(told), 1);

    drop(holder);
    eventually("the file is read again", || {
        (successful() == 1.0).then_some(())
    });

    let hung = Instant::now();
    let _holder = hang(&file).unwrap();
    eventually("the gauge tells again", || {
        (successful() == 0.0).then_some(())
    });
    server.signal("TERM");
    let ended = server.wait();
    // An end by force would be another code; and after this time the system takes the lease away.
    assert!(ended.success(), "{ended}");
    let patience = std::fs::read_to_string("/proc/sys/fs/lease-break-time").unwrap();
    let patience = Duration::from_secs(patience.trim().parse().unwrap());
    assert!(hung.elapsed() < patience, "{:?}", hung.elapsed());
}
