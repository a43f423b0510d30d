//! A browser with a certificate of ours, for tests that need a real one. Without it they say so, and skip.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::world::{Pki, command, in_repository, run, skipped};

/// Where Chromium reads its policies, and nowhere else.
const POLICY: &str = "/etc/chromium/policies/managed/countersign-test.json";

/// There is one such file for all tests.
static ONE: Mutex<()> = Mutex::const_new(());

/// Whether there is a browser, and what puts a certificate into it.
pub(crate) fn is_here(otherwise: &str) -> bool {
    let programs = [
        ("chromium", "--version"),
        ("certutil", "-H"),
        ("pk12util", "-H"),
    ];
    for (program, ask) in programs {
        let asked = Command::new(program)
            .arg(ask)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if asked.is_err() {
            skipped(&format!("{program}, so {otherwise}"));
            return false;
        }
    }
    true
}

/// The server and its callers, as the tool reads them.
const IDENTITIES: &str = r#"
[echo]
usage = "server"
uris = ["spiffe://{trust_domain}/echo"]
dns = ["localhost"]
ips = ["127.0.0.1"]

[orders]
usage = "client"
uris = ["spiffe://{trust_domain}/orders"]

[auditor]
usage = "client"
uris = ["spiffe://{trust_domain}/auditor"]

[marketing]
usage = "client"
uris = ["spiffe://{trust_domain}/marketing"]
"#;

/// A PKI that the tool made, so that it can export from it.
pub(crate) fn pki() -> Pki {
    let pki = Pki::empty();
    std::fs::write(pki.dir("dev.toml"), IDENTITIES).unwrap();
    let init = ["pki", "--dir", pki.dir.path().to_str().unwrap(), "init"];
    let made = run("countersign", init);
    assert!(made.status.success(), "{made:?}");
    pki
}

/// Chromium with one certificate, which it takes for one address without asking.
pub(crate) struct Chromium {
    home: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Chromium {
    /// With the certificate of `name`; `None`, which is said, where its policies cannot be written.
    pub(crate) async fn new(pki: &Pki, name: &str, address: SocketAddr) -> Option<Self> {
        let alone = ONE.lock().await;
        let pattern = format!("https://localhost:{}", address.port());
        let choice = serde_json::json!({"pattern": pattern, "filter": {}}).to_string();
        let policy = serde_json::json!({"AutoSelectCertificateForUrls": [choice]});
        let written = std::fs::create_dir_all(Path::new(POLICY).parent().unwrap())
            .and_then(|()| std::fs::write(POLICY, policy.to_string()));
        if written.is_err() {
            skipped("right to write a policy of Chromium's, so no browser chooses a certificate");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        import(pki, name, home.path());
        Some(Self {
            home,
            _alone: alone,
        })
    }

    /// Without a window, at this page.
    pub(crate) fn command(&self, url: &str) -> Command {
        let home = self.home.path();
        let mut chromium = in_repository(Command::new("chromium"));
        chromium
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .arg(format!(
                "--user-data-dir={}",
                home.join("profile").display()
            ))
            .arg(url)
            .stdin(Stdio::null());
        chromium
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        std::fs::remove_file(POLICY).ok();
    }
}

/// Puts the certificate of `name` and the root into the database that Chromium reads in `home`.
fn import(pki: &Pki, name: &str, home: &Path) {
    let p12 = home.join("identity.p12");
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let database = format!("sql:{}", database.display());
    let root = pki.dir(name).join("ca.crt");
    let (dir, p12, root) = (
        pki.dir.path().to_str().unwrap(),
        p12.to_str().unwrap(),
        root.to_str().unwrap(),
    );
    let export = ["pki", "--dir", dir, "export", name, "--p12", p12];
    let steps: [(&str, &[&str]); 4] = [
        (
            "countersign",
            &[&export[..], &["--password", "changeit"]].concat(),
        ),
        ("certutil", &["-N", "--empty-password", "-d", &database]),
        (
            "pk12util",
            &["-d", &database, "-i", p12, "-W", "changeit", "-K", ""],
        ),
        (
            "certutil",
            &[
                "-A", "-d", &database, "-t", "CT,,", "-n", "root", "-i", root,
            ],
        ),
    ];
    for (program, arguments) in steps {
        let mut step = match program {
            "countersign" => command(program),
            other => Command::new(other),
        };
        let done = step.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{program}: {done:?}");
    }
}
