//! The demo when something fails. scripts/check runs the whole demo.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::world::{Ending, command, eventually, program};

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_file() {
    let temporary = tempfile::tempdir().unwrap();
    program("countersign");
    let mut demo = Ending(
        command("countersign")
            .arg("demo")
            .env_remove("CARGO")
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let address: SocketAddr = lines
        .find_map(|line| {
            let port = line.split("https://localhost:").nth(1)?.split(',').next()?;
            Some(SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
        })
        .unwrap();
    TcpStream::connect(address).unwrap();
    signal(&demo.0, "INT");
    // Read to its end, or the demo would fail for its closed pipe instead.
    lines.for_each(drop);
    let status = eventually("the demo ends", || demo.0.try_wait().unwrap());
    assert!(!status.success());
    TcpStream::connect(address).unwrap_err();
    assert!(is_empty(temporary.path()));
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}
