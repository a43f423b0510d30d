//! A program that cannot start says in one line what is wrong, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use harness::world::{Ending, Pki, command, eventually, in_repository, program, run};

use crate::world::pki;

/// What keeps the server from starting, and what its one line must say.
type FaultCase = (&'static str, fn(&Pki), &'static [&'static str]);

#[test]
fn a_server_that_cannot_start_says_which_file_is_wrong_and_binds_nothing() {
    let faults: &[FaultCase] = &[
        (
            "no directory",
            |pki| fs::remove_dir_all(pki.dir("inventory")).unwrap(),
            &[
                "tls.crt",
                "No such file",
                "; make development certificates with `cargo cs pki init`",
            ],
        ),
        (
            "no key",
            |pki| fs::remove_file(pki.dir("inventory").join("tls.key")).unwrap(),
            &["tls.key", "No such file"],
        ),
        (
            "a directory for a key",
            |pki| {
                let key = pki.dir("inventory").join("tls.key");
                fs::remove_file(&key).unwrap();
                fs::create_dir(key).unwrap();
            },
            &["tls.key", "not a regular file"],
        ),
        (
            "an empty key",
            |pki| pki.put("inventory", "tls.key", ""),
            &["tls.key", "no private key"],
        ),
        (
            "an encrypted key",
            |pki| {
                let label = "ENCRYPTED PRIVATE KEY";
                pki.put(
                    "inventory",
                    "tls.key",
                    format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"),
                );
            },
            &["tls.key", "encrypted", "openssl pkey"],
        ),
        (
            "another's key",
            |pki| {
                let other = fs::read(pki.dir("orders").join("tls.key")).unwrap();
                pki.put("inventory", "tls.key", other);
            },
            &["tls.key", "tls.crt", "from different pairs"],
        ),
        (
            "an empty certificate",
            |pki| pki.put("inventory", "tls.crt", ""),
            &["tls.crt", "no certificate"],
        ),
        (
            "a truncated certificate",
            |pki| {
                let whole = fs::read_to_string(pki.dir("inventory").join("tls.crt")).unwrap();
                pki.put("inventory", "tls.crt", &whole[..200]);
            },
            &["tls.crt", "PEM"],
        ),
        (
            "a client's certificate",
            |pki| {
                for file in ["tls.crt", "tls.key"] {
                    let other = fs::read(pki.dir("orders").join(file)).unwrap();
                    pki.put("inventory", file, other);
                }
            },
            &["tls.crt", "serverAuth"],
        ),
        (
            "no root in the roots",
            |pki| pki.put("inventory", "ca.crt", "# none yet\n"),
            &["ca.crt", "no certificate"],
        ),
        (
            "an empty revocation list",
            |pki| pki.put("inventory", "crl.pem", ""),
            &["crl.pem", "no revocation list"],
        ),
        (
            "a revocation list that is a link to nowhere",
            |pki| {
                let link = pki.dir("inventory").join("crl.pem");
                std::os::unix::fs::symlink("..data/crl.pem", link).unwrap();
            },
            &["crl.pem", "it is a link to ..data/crl.pem"],
        ),
        (
            "no policy",
            |pki| fs::remove_file(pki.dir.path().join("policy.json")).unwrap(),
            &["policy.json", "No such file"],
        ),
        (
            "an invalid policy",
            |pki| fs::write(pki.dir.path().join("policy.json"), "{").unwrap(),
            &["policy.json", "line 1"],
        ),
        (
            "a policy for nothing",
            |pki| {
                let policy = r#"{"name":"p","allow_rules":[{"name":"a","request":{"paths":["/inventory.v1.InventoryService/GetItems"]}}]}"#;
                fs::write(pki.dir.path().join("policy.json"), policy).unwrap();
            },
            &[
                "policy.json",
                "/allow_rules/0/request/paths/0",
                "did you mean",
            ],
        ),
    ];
    for (fault, make, expected) in faults {
        let pki = pki();
        fs::copy(
            "../crates/server/policy.json",
            pki.dir.path().join("policy.json"),
        )
        .unwrap();
        make(&pki);
        for check in [true, false] {
            let line = refused_start(&pki, check, &[], &[]);
            for said in *expected {
                assert!(
                    line.contains(said),
                    "{fault}: {line:?} does not say {said:?}"
                );
            }
        }
        assert!(!pki.dir.path().join("inventory.redb").exists(), "{fault}");
    }
}

#[test]
fn a_server_that_cannot_start_says_which_setting_is_wrong() {
    let pki = pki();
    fs::copy(
        "../crates/server/policy.json",
        pki.dir.path().join("policy.json"),
    )
    .unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();

    let line = refused_start(&pki, true, &[("APP_LISTEN_ADR", "x")], &[]);
    assert!(
        line.contains("APP_LISTEN_ADR") && line.contains("APP_LISTEN_ADDR"),
        "{line}"
    );
    let line = refused_start(&pki, false, &[], &["--listen", &address]);
    assert!(
        line.contains(&address) && line.contains("another address"),
        "{line}"
    );
    let line = refused_start(&pki, false, &[], &["--admin-listen", &address]);
    assert!(
        line.contains(&address) && line.contains("another address"),
        "{line}"
    );
    let line = refused_start(&pki, true, &[], &["--max-connections", "0"]);
    assert!(line.contains("--max-connections"), "{line}");
}

#[test]
fn a_check_takes_its_flags_on_either_side_and_finds_a_data_file_that_cannot_be_written() {
    let pki = pki();
    let tls_dir = pki.dir("inventory");
    let tls = ["--tls-dir", tls_dir.to_str().unwrap()];
    let dir = pki.dir.path();
    let text = dir.join("text");
    fs::write(&text, "text").unwrap();
    let empty = dir.join("empty.redb");
    fs::write(&empty, "").unwrap();
    let good = dir.join("not/made/yet/inventory.redb");
    for (data, code, said) in [
        (good, 0, ""),
        (
            text.join("inventory.redb"),
            64,
            "the directory of the data file",
        ),
        (
            "/proc/none/inventory.redb".into(),
            64,
            "cannot create /proc/none, the directory of the data file",
        ),
        (
            "/proc/inventory.redb".into(),
            64,
            "cannot write to /proc, the directory of the data file",
        ),
        (empty, 64, "remove it to start with nothing"),
    ] {
        let data = ["--data", data.to_str().unwrap()];
        for args in [
            [&tls[..], &data, &["check"]].concat(),
            [&["check"][..], &tls, &data].concat(),
            [&data[..], &["check"], &tls].concat(),
        ] {
            let ended = run("server", &args);
            let stderr = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(code), "{args:?}: {stderr}");
            assert!(stderr.contains(said), "{args:?}: {stderr}");
        }
    }
    assert!(!dir.join("not").exists());
}

#[test]
fn a_process_that_gets_no_threads_says_so() {
    let pki = pki();
    let mut limited = in_repository(Command::new("sh"));
    // The stack of a thread takes a quarter of the address space, so that what is left when there is none for another is
    // enough to say so.
    limited
        .env("RUST_MIN_STACK", (1 << 30).to_string())
        .args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""])
        .arg(program("server"))
        .arg("--tls-dir")
        .arg(pki.dir("inventory"))
        .args(["--worker-threads", "4096", "check"]);
    let ended = limited.output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("4104 threads are needed"), "{stderr}");
    assert!(stderr.contains("--worker-threads"), "{stderr}");
}

/// Runs a server that must not start, and gives the line that it says.
fn refused_start(pki: &Pki, check: bool, env: &[(&str, &str)], args: &[&str]) -> String {
    let dir = pki.dir.path();
    let mut server = command("server");
    server.args(["--log-format", "json"]);
    if !args.contains(&"--listen") {
        server.args(["--listen", "127.0.0.1:0"]);
    }
    if !args.contains(&"--admin-listen") {
        server.args(["--admin-listen", "off"]);
    }
    server.arg("--tls-dir").arg(dir.join("inventory"));
    server.arg("--policy").arg(dir.join("policy.json"));
    server
        .arg("--data")
        .arg(dir.join("inventory.redb"))
        .args(args);
    if check {
        server.arg("check");
    }
    server.env("RUST_LOG", "error").envs(env.iter().copied());
    let child = server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let status = eventually("the server refuses to start", || {
        child.0.try_wait().unwrap()
    });
    let stderr = child.0.stderr.take().unwrap();
    let lines: Vec<_> = BufReader::new(stderr).lines().map(Result::unwrap).collect();
    assert_eq!(status.code(), Some(64), "{lines:?}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.concat()
}

#[test]
fn a_client_without_usable_credentials_sends_nothing_and_says_which_file_is_wrong() {
    let pki = pki();
    let key = fs::read(pki.dir("catalog").join("tls.key")).unwrap();
    pki.put("orders", "tls.key", key);
    let dir = pki.dir("orders");
    let args = ["--tls-dir", dir.to_str().unwrap(), "get-item", "X"];
    let output = run("client", args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("tls.key"), "{stderr}");
}
