//! A PKI and a PostgreSQL of its own for a test: on a socket and a loopback port, with TLS and certificates alone.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cli::pki::{Authority, Leaf, LeafSpec, Purpose, Revocation, Validity};
use countersign::identity::Role;
use countersign::mtls::{Reload, Source, Trust};
use tempfile::TempDir;
use time::OffsetDateTime;

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian keeps the programs, by version; elsewhere they are on the path.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Who may call, by the whole subject of its certificate.
const HBA: &str =
    "local all postgres trust\nhostssl all all 127.0.0.1/32 cert clientname=DN map=countersign\n";
const IDENT: &str = "countersign \"CN=inventory\" inventory\ncountersign \"CN=inventory\" reader\n";

/// One authority, which signs everything itself: PostgreSQL wants a revocation list of each authority on a path.
pub(crate) struct Pki {
    pub(crate) dir: TempDir,
    pub(crate) root: Authority,
}

impl Pki {
    /// With an identity for the service and one for the database.
    pub(crate) fn new() -> Self {
        let pki = Self {
            dir: tempfile::tempdir().unwrap(),
            root: Authority::root(&format!("root {}", fastrand::u64(..)), hour()).unwrap(),
        };
        pki.issue("inventory");
        pki
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Issues to the service called `name` a certificate for both sides, and puts it where `trust` finds it.
    pub(crate) fn issue(&self, name: &str) -> Leaf {
        self.install(name, &Self::spec(name))
    }

    pub(crate) fn spec(name: &str) -> LeafSpec {
        let mut spec = LeafSpec::client(hour());
        spec.purposes = vec![Purpose::Server, Purpose::Client];
        spec.uris = vec![format!("spiffe://acme.test/{name}")];
        spec.dns = vec!["localhost".to_owned()];
        spec.subject = Some(format!("CN={name}").parse().unwrap());
        spec
    }

    pub(crate) fn install(&self, name: &str, spec: &LeafSpec) -> Leaf {
        let leaf = self.root.issue(spec).unwrap();
        fs::create_dir_all(self.dir(name)).unwrap();
        self.put(name, "tls.key", &leaf.key_pem);
        self.put(name, "tls.crt", &leaf.chain_pem);
        self.put(name, "ca.crt", self.root.certificate_pem());
        leaf
    }

    /// Puts a file in place whole, by a rename.
    pub(crate) fn put(&self, name: &str, file: &str, content: &str) {
        let path = self.dir(name).join(file);
        fs::write(path.with_extension("next"), content).unwrap();
        fs::rename(path.with_extension("next"), path).unwrap();
    }

    /// A certificate for a database that is known as `host`.
    pub(crate) fn database(&self, host: &str) -> Leaf {
        let mut spec = LeafSpec::server(hour());
        spec.dns = vec![host.to_owned()];
        self.root.issue(&spec).unwrap()
    }

    pub(crate) fn crl(&self, number: u64, revoked: &[&Leaf]) -> String {
        let now = OffsetDateTime::now_utc() - time::Duration::minutes(1);
        let revoked: Vec<_> = revoked
            .iter()
            .map(|leaf| Revocation {
                serial: leaf.serial.clone(),
                at: now,
            })
            .collect();
        let next = now + time::Duration::hours(1);
        self.root.crl(number, &revoked, now, next).unwrap()
    }

    /// The credentials of `name`, as a client.
    pub(crate) fn trust(&self, name: &str) -> Trust {
        let reload = Reload {
            interval: Duration::from_millis(50),
            ..Reload::default()
        };
        Trust::open(Role::Client, Source::directory(self.dir(name)), reload).unwrap()
    }
}

fn hour() -> Validity {
    Validity::starting(OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap()
}

/// A PostgreSQL that ends with this.
pub(crate) struct Cluster {
    dir: TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    process: Option<Child>,
    databases: AtomicU32,
}

impl Cluster {
    /// As the database `localhost` of this PKI, or `None`, with a line that is seen, where PostgreSQL is not installed.
    pub(crate) fn start(pki: &Pki) -> Option<Self> {
        let cluster = Self::made(pki, &pki.database("localhost"));
        cluster.map(|mut cluster| {
            cluster.run(&[]);
            cluster
        })
    }

    /// One that does not run yet.
    pub(crate) fn made(pki: &Pki, leaf: &Leaf) -> Option<Self> {
        let bin = programs()?;
        let dir = tempfile::tempdir().unwrap();
        let cluster = Self {
            dir,
            bin,
            port: free_port(),
            process: None,
            databases: AtomicU32::new(0),
        };
        cluster.own(cluster.dir.path());
        let data = cluster.data();
        let made = cluster
            .command("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust"])
            .args(["--username=postgres", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        cluster.put("root.crt", pki.root.certificate_pem());
        cluster.put("root.crl", &pki.crl(1, &[]));
        cluster.put("pg_hba.conf", HBA);
        cluster.put("pg_ident.conf", IDENT);
        cluster.install(leaf);
        Some(cluster)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A new directory of the user who runs it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        self.own(&path);
        path
    }

    /// Runs with these settings too, until a connection is accepted.
    pub(crate) fn run(&mut self, settings: &[&str]) {
        let data = self.data();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut program = self.command("postgres");
        program.arg("-D").arg(&data);
        let port = format!("port={}", self.port);
        let socket = format!("unix_socket_directories={}", self.dir.path().display());
        let ours = [
            &*port,
            &*socket,
            "listen_addresses=127.0.0.1",
            "ssl=on",
            "ssl_min_protocol_version=TLSv1.3",
            "ssl_cert_file=server.crt",
            "ssl_key_file=server.key",
            "ssl_ca_file=root.crt",
            "ssl_crl_file=root.crl",
            "max_connections=50",
        ];
        for setting in ours.iter().chain(settings) {
            program.args(["-c", setting]);
        }
        let process = program
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
        let until = Instant::now() + PATIENCE;
        while self.try_sql("postgres", "SELECT 1").is_err() {
            assert!(Instant::now() < until, "it does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.sql(
            "postgres",
            "SELECT count(*) FROM pg_roles WHERE rolname = 'inventory'",
        ) == "0"
        {
            self.sql("postgres", "CREATE ROLE inventory LOGIN");
        }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The postmaster takes its children with it, and tells nobody.
            let pid = process.id().to_string();
            Command::new("kill").args(["-QUIT", &pid]).status().unwrap();
            process.wait().unwrap();
        }
    }

    /// Reads its certificates, lists and settings again.
    pub(crate) fn reload(&self) {
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Puts a file into its data directory.
    pub(crate) fn put(&self, file: &str, content: &str) {
        let path = self.data().join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.own(&path);
    }

    pub(crate) fn install(&self, leaf: &Leaf) {
        self.put("server.crt", &leaf.chain_pem);
        self.put("server.key", &leaf.key_pem);
    }

    /// A new database of the role `inventory`, by its name.
    pub(crate) fn create(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} OWNER inventory"),
        );
        name
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://inventory@localhost:{}/{database}", self.port)
    }

    /// What the superuser is told.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        self.try_sql(database, statement)
            .unwrap_or_else(|said| panic!("{statement}: {said}"))
    }

    fn try_sql(&self, database: &str, statement: &str) -> Result<String, String> {
        let done = Command::new(self.bin.join("psql"))
            .args(["-U", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1", "-p"])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(self.dir.path())
            .args(["-d", database, "-c", statement])
            .output()
            .unwrap();
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        Ok(String::from_utf8(done.stdout).unwrap().trim().to_owned())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// One of its programs, as the user who owns the data, and no longer than this test.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if self.owner().is_some() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.arg(self.bin.join(program)).current_dir("/");
        command
    }

    /// PostgreSQL refuses to run as root: then it runs as the user of Debian's package.
    fn owner(&self) -> Option<(u32, u32)> {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        if !status.contains("\nUid:\t0\t") {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("postgres:"));
        let mut fields = line.unwrap().split(':').skip(2);
        let mut number = || fields.next().unwrap().parse().unwrap();
        Some((number(), number()))
    }

    /// Gives a path to the user who runs it.
    pub(crate) fn own(&self, path: &Path) {
        if let Some((user, group)) = self.owner() {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = format!("the log of the database:\n{}", self.log());
            std::io::stderr().write_all(log.as_bytes()).ok();
        }
    }
}

/// The directory of the programs, if they are there.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = debian
        .chain(std::env::split_paths(&path))
        .find(|dir| dir.join("initdb").is_file());
    if found.is_none() {
        // Past the capture of the test harness, so that it is seen.
        let line = "skipped: there is no PostgreSQL\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// A port below those that the system gives to clients, so that nobody takes it while the database is away.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
