//! `countersign pki` on certificates that are there: renewed, watched, revoked, listed.

use std::process::{Child, Command, Stdio};

use countersign_cli::pki::Revocations;
use serde_json::Value;

use crate::commands::IDENTITIES;
use crate::tool::{Sandbox, eventually};

#[test]
fn renewal_changes_key_and_serial_number_and_nothing_else() {
    let sandbox = Sandbox::with_pki();
    for name in IDENTITIES {
        let facts = || {
            sandbox.leaf(name, |leaf| {
                let lifetime = leaf.validity.lifetime();
                (
                    leaf.names.clone(),
                    leaf.purposes.clone().unwrap(),
                    leaf.subject().unwrap(),
                    lifetime,
                )
            })
        };
        let key = sandbox.read(&format!("certs/{name}/tls.key"));
        let (before, serial) = (facts(), sandbox.serial(name));
        sandbox.succeed(&["pki", "renew", name]);
        assert_eq!(facts(), before);
        assert_ne!(sandbox.serial(name), serial);
        assert_ne!(sandbox.read(&format!("certs/{name}/tls.key")), key);
    }
    sandbox.refuse(&["pki", "renew", "nobody"], "nobody has no certificate");
    sandbox.refuse(&["pki", "renew", "../orders"], "a name is");
    sandbox.write("certs/orders/tls.crt", "garbage");
    sandbox.refuse(
        &["pki", "renew", "orders"],
        "orders: tls.crt holds no certificate",
    );
}

#[test]
fn a_revoked_identity_stays_out_until_somebody_lets_it_in() {
    let sandbox = Sandbox::with_pki();
    let (orders, catalog) = (sandbox.serial("orders"), sandbox.serial("catalog"));
    assert!(!sandbox.path("certs/orders/crl.pem").exists());
    assert!(
        sandbox
            .succeed(&["pki", "revoke", "orders"])
            .contains("revocation list 1: 1 revoked")
    );
    let colons = catalog.to_uppercase();
    sandbox.succeed(&["pki", "revoke", "--serial", &colons]);
    sandbox.succeed(&["pki", "revoke", "orders"]);
    sandbox.succeed(&["pki", "crl"]);
    for name in IDENTITIES.into_iter().chain(["ca"]) {
        let list = Revocations::from_pem(&sandbox.read(&format!("certs/{name}/crl.pem"))).unwrap();
        assert_eq!((list.number, list.entries.len()), (4, 2), "{name}");
        assert!(
            list.of(&orders.parse().unwrap()).is_some()
                && list.of(&catalog.parse().unwrap()).is_some()
        );
    }
    for command in [
        &["pki", "init"][..],
        &["pki", "renew"],
        &["pki", "renew", "orders"],
    ] {
        assert!(
            sandbox
                .succeed(command)
                .contains("orders           left as it is: revoked")
        );
        assert_eq!(sandbox.serial("orders"), orders);
    }
    let rows = sandbox.json(&["pki", "list"]);
    let states: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["revoked"] == true)
        .collect();
    assert_eq!(states, [false, false, true, false, false, false, true]);

    let uri = "spiffe://acme.test/orders";
    let again = ["pki", "issue", "orders", "--uri", uri, "--usage", "client"];
    sandbox.refuse(&again, "--replace");
    sandbox.succeed(&[&again[..], &["--replace"]].concat());
    assert_ne!(sandbox.serial("orders"), orders);
    sandbox.succeed(&["pki", "issue", "late", "--dns", "late.test"]);
    assert_eq!(
        sandbox.read("certs/late/crl.pem"),
        sandbox.read("certs/ca/crl.pem")
    );
}

#[test]
fn a_revocation_list_that_cannot_be_read_is_not_an_empty_one() {
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&["pki", "revoke", "orders"]);
    sandbox.write("certs/ca/crl.pem", "");
    for command in [
        &["pki", "revoke", "catalog"][..],
        &["pki", "init"],
        &["pki", "crl"],
        &["pki", "list"],
    ] {
        sandbox.refuse(command, "what was revoked would be trusted again");
    }
    for serial in ["", "0", "xyz", "1 2"] {
        sandbox.refuse(&["pki", "revoke", "--serial", serial], "serial number");
    }
    sandbox.refuse(&["pki", "revoke"], "required");
    sandbox.refuse(
        &["pki", "revoke", "orders", "--serial", "1"],
        "cannot be used with",
    );
}

#[test]
fn prune_shows_the_identities_that_are_no_longer_in_dev_toml_and_removes_them_when_told_to() {
    let sandbox = Sandbox::with_pki();
    assert_eq!(
        sandbox.succeed(&["pki", "prune"]),
        "every identity here is in dev.toml\n"
    );
    sandbox.succeed(&["pki", "issue", "old", "--uri", "x:old"]);
    sandbox.succeed(&["pki", "issue", "older", "--uri", "x:older"]);
    sandbox.succeed(&["pki", "revoke", "older"]);
    sandbox.write("certs/older/notes.txt", "mine");
    let before = sandbox.snapshot();
    let shown = sandbox.succeed(&["pki", "prune"]);
    for line in [
        "old              would be removed; its certificate is not revoked, and valid until ",
        "older            would be removed\n",
        "`countersign pki prune --yes` removes them",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(sandbox.snapshot(), before);
    let removed = sandbox.succeed(&["pki", "prune", "--yes"]);
    assert!(removed.contains("older            removed\n"), "{removed}");
    assert!(!sandbox.path("certs/old").exists());
    let left: Vec<_> = std::fs::read_dir(sandbox.path("certs/older"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["notes.txt"]);
    for name in IDENTITIES {
        assert!(sandbox.path(&format!("certs/{name}/tls.crt")).exists());
    }
}

#[test]
fn list_says_what_is_there_in_both_forms() {
    let sandbox = Sandbox::with_pki();
    sandbox.write("certs/orders/tls.crt", "garbage");
    let rows = sandbox.json(&["pki", "list"]);
    let names: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, IDENTITIES);
    assert_eq!(rows[1]["dns"][0], "billing.acme.test");
    assert_eq!(rows[1]["serial"], *sandbox.serial("billing"));
    assert!((0.9..=1.0).contains(&rows[1]["days_left"].as_f64().unwrap()));
    assert_eq!(rows[1]["problem"], Value::Null);
    assert!(
        rows[6]["problem"]
            .as_str()
            .unwrap()
            .contains("holds no certificate")
    );
    let text = sandbox.succeed(&["pki", "list"]);
    assert_eq!(text.lines().count(), 8);
    assert!(text.contains("CN=mainframe,OU=batch,O=Acme,C=US"), "{text}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sandbox = Sandbox::with_pki();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut list = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let list = list.args(["pki", "list"]).current_dir(sandbox.path("."));
    let output = list.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn watching_renews_what_is_due_and_ends_at_a_signal() {
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&["pki", "renew", "orders", "--ttl", "4s"]);
    let (orders, catalog) = (sandbox.serial("orders"), sandbox.serial("catalog"));
    let mut watch = Watch::start(&sandbox);
    eventually("orders is renewed, and again", || {
        let first = sandbox.serial("orders");
        first != orders && {
            eventually("orders is renewed again", || {
                sandbox.serial("orders") != first
            });
            true
        }
    });
    assert_eq!(sandbox.serial("catalog"), catalog, "it was not due");
    assert_eq!(sandbox.json(&["pki", "list"])[6]["problem"], Value::Null);
    watch.terminate();
    let status = watch.0.wait().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// A running `renew --watch` that ends with the test.
struct Watch(Child);

impl Watch {
    fn start(sandbox: &Sandbox) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["pki", "renew", "--watch"])
            .current_dir(sandbox.path("."))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn terminate(&mut self) {
        // The shell has `kill` built in; a program of that name is not everywhere.
        let kill = format!("kill {}", self.0.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.0.kill());
    }
}

#[test]
fn two_runs_at_once_do_not_undo_each_other() {
    let sandbox = Sandbox::with_pki();
    std::thread::scope(|scope| {
        for name in IDENTITIES {
            scope.spawn(|| sandbox.succeed(&["pki", "revoke", name]));
        }
    });
    let list = Revocations::from_pem(&sandbox.read("certs/ca/crl.pem")).unwrap();
    assert_eq!((list.number, list.entries.len()), (7, 7));
}

#[test]
fn a_revoked_identity_comes_back_with_the_names_of_dev_toml() {
    let sandbox = Sandbox::with_identities();
    sandbox.succeed(&["pki", "init", "--trust-domain", "corp.test"]);
    for name in ["orders", "billing", "mainframe", "inventory"] {
        let names = || sandbox.leaf(name, |leaf| (leaf.names.clone(), leaf.subject().unwrap()));
        let before = (names(), sandbox.serial(name));
        let said = sandbox.succeed(&["pki", "revoke", name]);
        let advice = format!("pki issue {name} --replace`");
        assert!(said.contains(&advice), "{said}");
        let said = sandbox.succeed(&["pki", "issue", name, "--replace"]);
        assert!(said.contains("replaced"), "{said}");
        assert_eq!(names(), before.0, "{name}");
        assert_ne!(sandbox.serial(name), before.1, "{name}");
        let listed = sandbox.json(&["pki", "list"]);
        let row = listed
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name);
        assert_eq!(row.unwrap()["revoked"], false, "{name}");
    }
    sandbox.succeed(&["pki", "issue", "guest", "--dns", "guest.test"]);
    sandbox.refuse(&["pki", "issue", "guest", "--replace"], "no name is given");
}

#[test]
fn a_new_row_of_dev_toml_is_issued_under_the_trust_domain_of_the_pki() {
    let sandbox = Sandbox::with_identities();
    sandbox.succeed(&["pki", "init", "--trust-domain", "corp.test"]);
    let row = "[reports]\nusage = \"client\"\nuris = [\"spiffe://{trust_domain}/reports\"]\n";
    let roster = sandbox.read("certs/dev.toml");
    sandbox.write("certs/dev.toml", format!("{roster}\n{row}"));
    sandbox.succeed(&["pki", "issue", "reports"]);
    let uris = sandbox.leaf("reports", |leaf| leaf.names.uris.clone());
    assert_eq!(uris, ["spiffe://corp.test/reports"]);
    // A key that is asked for is not ignored.
    let with_key = ["pki", "issue", "reports", "--key", "ed25519", "--replace"];
    sandbox.refuse(&with_key, "no name is given");
}

#[test]
fn the_doctor_reads_our_own_list() {
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&["pki", "revoke", "orders"]);
    // Nobody is asked: what our own files say comes first.
    let run = sandbox.run(&["doctor", "localhost:1", "--tls-dir", "certs/orders"]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("CERTIFICATE_REVOKED"), "{}", run.out);
    sandbox.succeed(&["pki", "issue", "orders", "--replace"]);
    let run = sandbox.run(&["doctor", "localhost:1", "--tls-dir", "certs/orders"]);
    assert!(run.out.contains("UNREACHABLE"), "{}", run.out);
}

#[test]
fn a_certificate_that_ends_now_has_no_days_left() {
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&["pki", "issue", "brief", "--dns", "a.test", "--ttl", "1s"]);
    eventually("it has expired", || {
        sandbox
            .json(&["pki", "list"])
            .to_string()
            .contains("expired")
    });
    assert!(!sandbox.succeed(&["pki", "list"]).contains("-0.00"));
}
