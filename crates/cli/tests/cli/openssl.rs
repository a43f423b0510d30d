//! What openssl says to what is made here. Where there is no openssl, these tests say so and pass.

use std::process::Command;

use crate::tool::{self, Sandbox};

/// Runs openssl; `None` when there is none, otherwise whether it succeeded and all that it said.
pub(crate) fn run(sandbox: &Sandbox, arguments: &str) -> Option<(bool, String)> {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(sandbox.path("certs"))
        .output()
        .ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

pub(crate) fn is_missing() -> bool {
    tool::is_missing("openssl", "version")
}

#[test]
fn it_accepts_our_chains_for_their_purpose_by_its_strict_rules_and_for_no_other() {
    if is_missing() {
        return;
    }
    let sandbox = Sandbox::with_pki();
    for key in ["ed25519", "rsa2048"] {
        let usage = ["--usage", "client", "--key", key];
        sandbox.succeed(&[&["pki", "issue", key, "--dns", "a.test"], &usage[..]].concat());
    }
    for (name, right, wrong) in [
        ("inventory", "sslserver", "sslclient"),
        ("orders", "sslclient", "sslserver"),
        ("mainframe", "sslclient", "sslserver"),
        ("ed25519", "sslclient", "sslserver"),
        ("rsa2048", "sslclient", "sslserver"),
    ] {
        let verify = |purpose| {
            let roots = format!("-CAfile {name}/ca.crt -untrusted {name}/tls.crt");
            run(
                &sandbox,
                &format!("verify -x509_strict -purpose {purpose} {roots} {name}/tls.crt"),
            )
            .unwrap()
        };
        assert_eq!(verify(right), (true, format!("{name}/tls.crt: OK\n")));
        assert!(!verify(wrong).0, "{name}");
        let (read, said) = run(&sandbox, &format!("pkey -noout -in {name}/tls.key")).unwrap();
        assert!(read, "{name}: {said}");
    }
}

#[test]
fn it_prints_the_subject_in_the_order_of_the_policy() {
    if is_missing() {
        return;
    }
    let sandbox = Sandbox::with_pki();
    let printed = run(
        &sandbox,
        "x509 -noout -subject -nameopt RFC2253 -in mainframe/tls.crt",
    );
    assert_eq!(
        printed.unwrap().1,
        "subject=CN=mainframe,OU=batch,O=Acme,C=US\n"
    );
}

#[test]
fn it_finds_what_is_revoked() {
    if is_missing() {
        return;
    }
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&["pki", "revoke", "orders"]);
    let (_, list) = run(
        &sandbox,
        "crl -noout -text -CAfile ca/issuing.crt -in orders/crl.pem",
    )
    .unwrap();
    for part in [
        "Version 2",
        "X509v3 CRL Number",
        "X509v3 Authority Key Identifier",
        "verify OK",
    ] {
        assert!(list.contains(part), "{part}: {list}");
    }
    for (name, accepted) in [("orders", false), ("catalog", true)] {
        let files =
            format!("-CAfile {name}/ca.crt -untrusted {name}/tls.crt -CRLfile {name}/crl.pem");
        let (ok, said) = run(
            &sandbox,
            &format!("verify -crl_check {files} {name}/tls.crt"),
        )
        .unwrap();
        assert_eq!(ok, accepted, "{said}");
        assert_eq!(said.contains("certificate revoked"), !accepted, "{said}");
    }
}
