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

/// RFC 4514 §4, and what else a subject may be: as given, and as it is compared.
const SUBJECTS: &[(&str, &str)] = &[
    (
        "UID=jsmith,DC=example,DC=net",
        "UID=jsmith,DC=example,DC=net",
    ),
    (
        "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        "CN=J.  Smith+OU=Sales,DC=example,DC=net",
    ),
    (
        r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#,
        r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#,
    ),
    // An OCTET STRING: openssl cannot read a certificate with such a name, so that it is not asked.
    (
        "1.3.6.1.4.1.1466.0=#04024869",
        "1.3.6.1.4.1.1466.0=#04024869",
    ),
    (
        "1.3.6.1.4.1.1466.0=#0c024869",
        "1.3.6.1.4.1.1466.0=#0C024869",
    ),
    (r"CN=Lu\C4\8Di\C4\87", r"CN=Lu\C4\8Di\C4\87"),
    ("CN=Lučić", r"CN=Lu\C4\8Di\C4\87"),
    ("CN=a,OU=b,OU=c,O=d,C=US", "CN=a,OU=b,OU=c,O=d,C=US"),
    ("L=a,L=b", "L=a,L=b"),
    ("UID=1+CN=a+OU=b,C=US", "UID=1+OU=b+CN=a,C=US"),
    ("2.5.4.5=#130131,O=a", "serialNumber=1,O=a"),
    (r"CN=\#1 \<\> \\ \; \+ a=b\ ", r"CN=\#1 \<\> \\ \; \+ a=b\ "),
];

#[test]
fn a_subject_is_the_same_for_openssl_for_us_and_for_a_policy() {
    let sandbox = Sandbox::with_pki();
    let no_openssl = is_missing();
    if !no_openssl {
        let request = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout ../x.key -out ../x.csr";
        assert!(run(&sandbox, request).unwrap().0);
    }
    let requests: &[&[&str]] = if no_openssl {
        &[&[]]
    } else {
        &[&[], &["--csr", "x.csr"]]
    };
    for (given, written) in SUBJECTS {
        for csr in requests {
            let issue = ["pki", "issue", "x", "--replace", "--subject", given];
            sandbox.succeed(&[&issue[..], csr].concat());
            // Renewal makes the same name of what the certificate says.
            sandbox.succeed(&["pki", "renew", "x"]);
            let shown = sandbox.json(&["cert", "show", "certs/x/tls.crt"]);
            assert_eq!(shown["certificates"][0]["subject"], *written, "{given}");
            assert_eq!(shown["as_client"]["identified"]["principal"], *written);
            let verify = "cert verify --purpose client --ca certs/x/ca.crt certs/x/tls.crt";
            sandbox.succeed(&verify.split(' ').collect::<Vec<_>>());
            let policy = serde_json::json!({"name": "p", "allow_rules": [
                {"name": "r", "source": {"principals": [written]}, "request": {"paths": ["*"]}}
            ]});
            sandbox.write("p.json", policy.to_string());
            sandbox.succeed(&["policy", "check", "p.json", "--strict", "--api", "none"]);
            let explain = "policy explain --policy p.json --cert certs/x/tls.crt --method /a.B/C";
            let explained = sandbox.json(&explain.split(' ').collect::<Vec<_>>());
            assert_eq!(explained["results"][0]["decision"], "allow", "{written}");
            let print = "x509 -noout -subject -nameopt RFC2253 -in x/tls.crt";
            if let Some((_, printed)) = run(&sandbox, print).filter(|_| !written.contains("#04")) {
                assert_eq!(printed, format!("subject={written}\n"), "{given}");
                let verify = "verify -x509_strict -CAfile x/ca.crt -untrusted x/tls.crt x/tls.crt";
                assert_eq!(run(&sandbox, verify).unwrap().1, "x/tls.crt: OK\n");
            }
        }
    }
    let control = r"CN=Before\0dAfter,DC=example,DC=net";
    sandbox.refuse(
        &["pki", "issue", "x", "--replace", "--subject", control],
        "the value of CN holds a control character",
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

#[test]
fn an_authority_whose_subject_cannot_be_written_as_an_issuer_is_refused_with_what_to_do() {
    if is_missing() {
        return;
    }
    let sandbox = Sandbox::with_pki();
    let key = sandbox.read("certs/ca/issuing.key");
    for (given, named) in [
        ("/DC=test/DC=acme/CN=I", "CN=I,DC=acme,DC=test"),
        ("/O=Acme/OU=a/OU=b", "OU=b,OU=a,O=Acme"),
        ("/O=Acme/CN=I+OU=a", "OU=a+CN=I,O=Acme"),
    ] {
        let made = format!(
            "req -x509 -new -multivalue-rdn -key ca/issuing.key -subj {given} -out ca/issuing.crt"
        );
        let (made, said) = run(&sandbox, &made).unwrap();
        assert!(made, "{said}");
        let why = format!(
            "certs/ca/issuing.crt: its subject {named} has a type twice or joins several by '+'"
        );
        for command in [
            &["pki", "list"][..],
            &["pki", "issue", "w", "--dns", "w.test"],
        ] {
            let run = sandbox.run(command);
            assert_eq!(run.code, 64, "{}", run.err);
            assert!(run.err.contains(&why), "{}", run.err);
            assert!(
                run.err.contains("such as CN=Issuing,O=Acme,C=US"),
                "{}",
                run.err
            );
        }
        assert_eq!(sandbox.read("certs/ca/issuing.key"), key);
    }
}
