//! The demo when something fails. scripts/check runs the whole demo.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::world::{Ending, command, eventually, program, repository};

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

#[test]
fn a_server_of_a_demo_calls_its_backend() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let text = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    fs::create_dir(dir.join("certs")).unwrap();
    let roster = text("certs/dev.toml").replacen("usage = \"server\"", "usage = \"both\"", 1);
    let backend = "\n[collector]\nusage = \"server\"\ndns = [\"localhost\"]\n";
    fs::write(dir.join("certs/dev.toml"), roster + backend).unwrap();
    let demo = text("demo.toml")
        .replace("crates/", &format!("{}/crates/", repository().display()))
        .replace(
            "inventory.redb\"]",
            "inventory.redb\", \"--otlp-endpoint\", \"{collector}\"]",
        );
    let run = |program: &Path| {
        let policy = repository().join("crates/server/policy.json");
        let data = "[\"--data\", \"{dir}/collector.redb\"]";
        let backend = format!(
            "\n[[backend]]\nprogram = {program:?}\npolicy = {policy:?}\nidentity = \"collector\"\narguments = {data}\n"
        );
        fs::write(dir.join("demo.toml"), demo.clone() + &backend).unwrap();
        let done = command("countersign")
            .args(["demo", "--keep", "--file"])
            .arg(dir.join("demo.toml"))
            .env_remove("CARGO")
            .env("TMPDIR", dir)
            .output()
            .unwrap();
        let said = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), said(done.stdout), said(done.stderr))
    };
    program("client");
    let (code, _, error) = run(Path::new("./none"));
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("none; build it first"), "{error}");

    let (code, out, error) = run(&program("server"));
    assert_eq!(code, Some(0), "{out}{error}");
    let kept = out.lines().find_map(|line| line.strip_prefix("kept: "));
    // The backend denies what it does not offer, and so says who called it.
    let audit = Path::new(kept.unwrap()).join("collector-audit.jsonl");
    let audit = fs::read_to_string(audit).unwrap();
    assert!(audit.contains("spiffe://acme.test/inventory"), "{audit}");
}
