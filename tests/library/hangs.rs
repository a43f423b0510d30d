//! Processes in which something hangs, and that end all the same when they are asked to.
//!
//! Each is this test program again, which runs the function of [`app`] that is meant around something that never ends.

use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::world::{Ending, Log, eventually};

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
