//! An example as a process, which ends with the test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// The process, and the lines of its log. Cargo builds the examples before it runs tests, unless only one test is named.
pub(crate) struct ExampleProcess {
    child: Child,
    lines: Receiver<Value>,
}

impl Drop for ExampleProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl ExampleProcess {
    /// Starts an example with these settings, on a port of its own.
    pub(crate) fn start(example: &str, variables: &[(&str, &str)]) -> Self {
        // .../target/PROFILE/deps/TEST-HASH
        let here = std::env::current_exe().unwrap();
        let profile = here.parent().and_then(Path::parent).unwrap();
        let program = profile.join("examples").join(example);
        assert!(
            program.exists(),
            "build it: cargo build -p countersign --example {example}"
        );
        let mut child = Command::new(program)
            .env_remove("SPIFFE_ENDPOINT_SOCKET")
            .env("APP_LISTEN_ADDR", "127.0.0.1:0")
            .env("APP_ADMIN_ADDR", "off")
            .env("APP_LOG_FORMAT", "json")
            .env("APP_TLS_RELOAD_INTERVAL", "100ms")
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
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
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

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let listening = self.logged("listening");
        let address = listening.last().unwrap()["address"].as_str().unwrap();
        address.parse().unwrap()
    }
}
