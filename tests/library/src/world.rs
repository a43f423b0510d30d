//! Fixtures: a PKI minted for each test, programs as real processes, and clients of every identity.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use cli::pki::{Authority, Leaf, LeafSpec, Purpose, Revocation, Validity};
use identity::Role;
use mtls::{Channel, ChannelOptions, Reload, ServerIdentity, Source, Target, Trust};
use serde_json::Value;
use tempfile::TempDir;
use test_contract::v1::echo_service_client::EchoServiceClient;
use time::OffsetDateTime;

/// How long a condition may take to come true. A test that waits this long has failed; none waits it out otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How soon the programs under test see a changed file.
pub const RELOAD: Duration = Duration::from_millis(50);

/// The callers of the tests: four by a SPIFFE ID, one by a DNS name and one by its subject. tests/library/policy.json says
/// what each may do.
pub const IDENTITIES: [&str; 6] = [
    "orders",
    "catalog",
    "auditor",
    "marketing",
    "billing",
    "mainframe",
];

/// The directory of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A root and an issuing CA, and a directory with a trust directory for each identity.
pub struct Pki {
    pub dir: TempDir,
    pub root: Authority,
    pub issuing: Authority,
}

pub fn validity(lifetime: Duration) -> Validity {
    Validity::starting(OffsetDateTime::now_utc(), lifetime).unwrap()
}

pub fn hour() -> Validity {
    validity(Duration::from_secs(3600))
}

/// What the certificate of each identity says; the server's is good for calling too, so that the policy is asked about it.
pub fn spec(name: &str) -> LeafSpec {
    let mut spec = LeafSpec::client(hour());
    match name {
        "billing" => spec.dns = vec!["billing.acme.test".to_owned()],
        "mainframe" => spec.subject = Some("CN=mainframe,OU=batch,O=Acme,C=US".parse().unwrap()),
        _ => spec.uris = vec![format!("spiffe://acme.test/{name}")],
    }
    if name == "echo" {
        spec.purposes = vec![Purpose::Server, Purpose::Client];
        spec.dns = vec!["localhost".to_owned()];
        spec.ips = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    }
    spec
}

impl Pki {
    /// With a trust directory for the server and one for every client.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let pki = Self::empty();
        for name in IDENTITIES.into_iter().chain(["echo"]) {
            pki.issue(name, &spec(name));
        }
        pki
    }

    pub fn empty() -> Self {
        let root = Authority::root("test root", hour()).unwrap();
        let issuing = root.issuing("test issuing", hour()).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            root,
            issuing,
        }
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mints a leaf and makes a trust directory of it.
    pub fn issue(&self, name: &str, spec: &LeafSpec) -> Leaf {
        let leaf = self.issuing.issue(spec).unwrap();
        self.install(name, &leaf);
        leaf
    }

    pub fn install(&self, name: &str, leaf: &Leaf) {
        let dir = self.dir(name);
        fs::create_dir_all(&dir).unwrap();
        self.put(name, "tls.key", &leaf.key_pem);
        self.put(name, "tls.crt", &leaf.chain_pem);
        if !dir.join("ca.crt").exists() {
            self.put(name, "ca.crt", self.root.certificate_pem());
        }
    }

    /// Puts a file in place whole, by a rename.
    pub fn put(&self, name: &str, file: &str, content: impl AsRef<[u8]>) {
        let path = self.dir(name).join(file);
        let next = path.with_extension("next");
        fs::write(&next, content).unwrap();
        fs::rename(next, path).unwrap();
    }

    /// The revocation list of the issuing CA, as PEM, good for an hour.
    pub fn crl(&self, number: u64, revoked: &[&Leaf]) -> String {
        let now = OffsetDateTime::now_utc();
        let minute = time::Duration::minutes(1);
        self.crl_of(number, revoked, now - minute, now + 60 * minute)
    }

    pub fn crl_of(
        &self,
        number: u64,
        revoked: &[&Leaf],
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> String {
        let revoked: Vec<_> = revoked
            .iter()
            .map(|leaf| Revocation {
                serial: leaf.serial.clone(),
                at: this_update,
            })
            .collect();
        self.issuing
            .crl(number, &revoked, this_update, next_update)
            .unwrap()
    }

    pub fn trust(&self, name: &str, role: Role) -> Trust {
        Trust::open(role, Source::directory(self.dir(name)), reload()).unwrap()
    }

    /// A channel as `name` to the server at `address`, which must prove to be localhost.
    pub fn channel(&self, name: &str, address: SocketAddr) -> Channel {
        channel(self.trust(name, Role::Client), address)
    }

    pub fn client(&self, name: &str, address: SocketAddr) -> EchoServiceClient<Channel> {
        EchoServiceClient::new(self.channel(name, address))
    }
}

/// A channel to the server at `address`, which must prove to be localhost.
pub fn channel(trust: Trust, address: SocketAddr) -> Channel {
    let target = Target::parse(&format!("https://localhost:{}", address.port())).unwrap();
    let expected = ServerIdentity::Name("localhost".try_into().unwrap());
    mtls::connect(target, expected, trust, ChannelOptions::default())
}

pub fn reload() -> Reload {
    Reload {
        interval: RELOAD,
        ..Reload::default()
    }
}

/// The programs of the workspace, built once for all tests.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--bins"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.current_dir(repository()).status().unwrap().success());
        // .../target/PROFILE/deps/tests-HASH
        let here = std::env::current_exe().unwrap();
        here.parent().and_then(Path::parent).unwrap().to_owned()
    });
    dir.join(name)
}

/// Runs a program to its end, without any `APP_*` variable of ours.
pub fn run<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Output {
    command(name)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn command(name: &str) -> Command {
    in_repository(Command::new(program(name)))
}

/// A command without any `APP_*` variable of ours.
pub fn in_repository(mut command: Command) -> Command {
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("APP_") {
            command.env_remove(variable);
        }
    }
    command.current_dir(repository()).env("RUST_LOG", "info");
    command
}

/// A server as a process of its own. It is killed when this goes.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub log: Log,
    pub stdout: Log,
}

impl Server {
    /// The echo server with its certificate and its policy, unless `args` name others.
    pub fn start(pki: &Pki, args: &[&str]) -> Self {
        Self::start_as(command("echo-server"), pki, args)
    }

    /// The same by another command line that ends in the server.
    pub fn start_as(mut program: Command, pki: &Pki, args: &[&str]) -> Self {
        program.env("APP_TLS_DIR", pki.dir("echo"));
        Self::spawn(program, args)
    }

    /// Any server of the library, on free ports.
    pub fn spawn(mut program: Command, args: &[&str]) -> Self {
        let mut child = program
            .env("APP_LISTEN_ADDR", "127.0.0.1:0")
            .env("APP_ADMIN_ADDR", "127.0.0.1:0")
            .env("APP_LOG_FORMAT", "json")
            .env("APP_TLS_RELOAD_INTERVAL", "50ms")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let stdout = Log::of(child.stdout.take().unwrap());
        let bound = |message: &str| {
            let line = log.wait(|line| line["message"] == message);
            line["address"].as_str().unwrap().parse().unwrap()
        };
        let admin = bound("admin port listening");
        let address = bound("listening");
        Self {
            child,
            address,
            admin,
            log,
            stdout,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process and no other.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the server ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The JSON lines that a process has written so far.
#[derive(Clone)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: VecDeque<Value>,
    closed: bool,
}

impl Log {
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.0.0.lock().unwrap().lines.push_back(line);
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().closed = true;
            writer.0.1.notify_all();
        });
        log
    }

    /// The first line, from the beginning, for which `wanted` holds, as soon as there is one.
    pub fn wait(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !lines.closed,
                "no such line in:\n{}",
                text(&lines)
            );
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The sums of what is taken from each line.
    pub fn sum(&self, taken: impl Fn(&Value) -> Option<(u64, u64)>) -> (u64, u64) {
        let lines = self.0.0.lock().unwrap();
        let each = lines.lines.iter().filter_map(taken);
        each.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.0
            .0
            .lock()
            .unwrap()
            .lines
            .iter()
            .filter(|line| wanted(line))
            .count()
    }
}

fn text(lines: &Lines) -> String {
    lines.lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Waits until `condition` gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same for a condition that has to be asked for.
pub async fn eventually_async<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let attempts = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempts)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Says that a part of a test cannot run here; scripts/check collects these lines.
pub fn skipped(what: &str) {
    // Past the capture of the test harness, so that it is seen.
    let line = format!("skipped: there is no {what}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A process that ends with the test.
pub struct Ending(pub Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
