//! Runs the tool in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use countersign_cli::pki::certificate::Certificate;
use pki_types::CertificateDer;
use pki_types::pem::PemObject as _;

pub(crate) struct Sandbox(tempfile::TempDir);

/// What a run of the tool left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With identities of these tests' own in `certs/dev.toml`.
    pub(crate) fn with_identities() -> Self {
        let sandbox = Self::empty();
        std::fs::create_dir(sandbox.path("certs")).unwrap();
        sandbox.write("certs/dev.toml", include_str!("identities.toml"));
        sandbox
    }

    /// With a PKI of these identities.
    pub(crate) fn with_pki() -> Self {
        let sandbox = Self::with_identities();
        sandbox.succeed(&["pki", "init"]);
        sandbox
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), contents).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(&[], arguments)
    }

    /// With these variables and no others.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        run(self.0.path(), variables, arguments)
    }

    /// In a directory of it.
    pub(crate) fn run_in(&self, directory: &str, arguments: &[&str]) -> Run {
        run(&self.path(directory), &[], arguments)
    }

    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let Run { code, out, err } = self.run(arguments);
        assert_eq!((code, &*err), (0, ""), "{arguments:?}: {out}");
        out
    }

    /// What a command says with `--output json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.succeed(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// Expects exit code 64 and one line on standard error that has `why` in it.
    pub(crate) fn refuse(&self, arguments: &[&str], why: &str) {
        let Run { code, out, err } = self.run(arguments);
        assert_eq!(code, 64, "{arguments:?}: {out}{err}");
        assert!(err.contains(why), "{arguments:?}: {err}");
        assert_eq!(out, "", "{arguments:?}");
    }

    /// Every file with its contents, so that one can see that nothing has changed.
    pub(crate) fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(self.0.path(), &mut files);
        files.sort();
        files
    }

    pub(crate) fn leaf<T>(&self, name: &str, read: impl FnOnce(&Certificate) -> T) -> T {
        let pem = self.read(&format!("certs/{name}/tls.crt"));
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        read(&Certificate::from_der(&der).unwrap())
    }

    pub(crate) fn serial(&self, name: &str) -> String {
        self.leaf(name, |leaf| leaf.serial.to_string())
    }
}

fn run(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a program is not there. It is said on standard error itself, past the test's captured output, so that
/// scripts/check can list what was skipped.
pub(crate) fn is_missing(program: &str, harmless: &str) -> bool {
    let missing = Command::new(program).arg(harmless).output().is_err();
    if missing {
        let line = format!("skipped: there is no {program}\n");
        drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            line.as_bytes(),
        ));
    }
    missing
}

/// Runs another program in the directory: whether it succeeded, and all that it said.
pub(crate) fn run_other(sandbox: &Sandbox, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(sandbox.0.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(to) = path.read_link() {
            files.push((path, to.into_os_string().into_encoded_bytes()));
        } else {
            let contents = std::fs::read(&path).unwrap();
            files.push((path, contents));
        }
    }
}
