//! A server process that has its identity from an agent.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::identity::Role;
use serde_json::Value;
use test_contract::v1::EchoRequest;
use tonic::Code;

use crate::agent::{Agent, Domain, Says, answer};
use crate::{ACME, PATIENCE, client, open};

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
