//! `pki issue --csr`: certificates for keys that are not here.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _, SanType};

use crate::tool::{Sandbox, is_missing, run_other};

struct Asked {
    key: KeyPair,
    pem: String,
    der: Vec<u8>,
}

fn ask(names: &[&str]) -> Asked {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    let request = params.serialize_request(&key).unwrap();
    Asked {
        key,
        pem: request.pem().unwrap(),
        der: request.der().to_vec(),
    }
}

const ISSUE: [&str; 5] = ["pki", "issue", "web", "--csr", "web.csr"];

fn issue(more: &[&'static str]) -> Vec<&'static str> {
    [&ISSUE, more].concat()
}

#[test]
fn the_key_stays_where_it_is_and_renewal_keeps_it() {
    let sandbox = Sandbox::with_pki();
    let asked = ask(&["spiffe://acme.test/web", "127.0.0.1"]);
    sandbox.write("web.csr", &asked.pem);
    let allowed = [
        "--uri",
        "spiffe://acme.test/web",
        "--ip",
        "127.0.0.1",
        "--dns",
        "web.acme.test",
        "--usage",
        "client",
    ];
    let said = sandbox.succeed(&issue(&allowed));
    assert!(said.contains("issued"), "{said}");
    assert!(!sandbox.path("certs/web/tls.key").exists());
    let is_theirs = |sandbox: &Sandbox| {
        sandbox.leaf("web", |leaf| {
            assert_eq!(leaf.public_key, asked.key.subject_public_key_info());
            assert_eq!(leaf.names.uris, ["spiffe://acme.test/web"]);
            assert_eq!(leaf.names.ips.len(), 1);
            assert!(leaf.names.dns.is_empty());
            assert_eq!(leaf.purposes.as_ref().unwrap().len(), 1);
        });
    };
    is_theirs(&sandbox);
    sandbox.succeed(&[
        "cert",
        "verify",
        "--ca",
        "certs/web/ca.crt",
        "--purpose",
        "client",
        "certs/web/tls.crt",
    ]);

    let before = sandbox.snapshot();
    assert!(sandbox.succeed(&issue(&allowed)).contains("kept"));
    assert_eq!(sandbox.snapshot(), before);

    let serial = sandbox.serial("web");
    let said = sandbox.succeed(&["pki", "renew", "web"]);
    assert!(
        said.contains("for the same key, which is not here"),
        "{said}"
    );
    assert_ne!(sandbox.serial("web"), serial);
    is_theirs(&sandbox);

    sandbox.refuse(&["pki", "issue", "web", "--dns", "web.test"], "--replace");
    sandbox.succeed(&["pki", "issue", "web", "--dns", "web.test", "--replace"]);
    assert!(sandbox.path("certs/web/tls.key").exists());
    assert!(!sandbox.path("certs/web/tls.csr").exists());
    sandbox.refuse(&issue(&allowed), "the request is for another");
    sandbox.succeed(&issue(&[&allowed[..], &["--replace"]].concat()));
    assert!(!sandbox.path("certs/web/tls.key").exists());
}

#[test]
fn a_key_that_was_made_in_place_stays() {
    let sandbox = Sandbox::with_pki();
    let asked = ask(&[]);
    std::fs::create_dir(sandbox.path("certs/web")).unwrap();
    sandbox.write("certs/web/tls.key", asked.key.serialize_pem());
    sandbox.write("web.csr", &asked.pem);
    sandbox.succeed(&issue(&["--dns", "web.test"]));
    assert_eq!(sandbox.read("certs/web/tls.key"), asked.key.serialize_pem());
}

#[test]
fn no_name_is_granted_that_nobody_allowed() {
    let sandbox = Sandbox::with_pki();
    sandbox.write("web.csr", ask(&["web.test", "spiffe://acme.test/root"]).pem);
    let before = sandbox.snapshot();
    for (allowed, beyond) in [
        (
            &["--dns", "web.test"][..],
            "allow them with --uri spiffe://acme.test/root, or",
        ),
        (
            &["--dns", "other.test"],
            "--uri spiffe://acme.test/root --dns web.test, or",
        ),
        (
            &["--subject", "CN=web"],
            "--uri spiffe://acme.test/root --dns web.test, or",
        ),
        (
            &[],
            "--uri spiffe://acme.test/root --dns web.test, or all of them with --as-requested",
        ),
    ] {
        sandbox.refuse(&issue(allowed), beyond);
    }
    assert_eq!(sandbox.snapshot(), before);
    sandbox.succeed(&issue(&["--as-requested"]));
    sandbox.leaf("web", |leaf| {
        assert_eq!(leaf.names.uris, ["spiffe://acme.test/root"]);
        assert_eq!(leaf.names.dns, ["web.test"]);
    });
}

#[test]
fn a_request_that_names_nobody_gets_what_is_allowed() {
    let sandbox = Sandbox::with_pki();
    // As keytool labels it.
    let pem = ask(&[]).pem.replace(" CERTIFICATE", " NEW CERTIFICATE");
    sandbox.write("web.csr", format!("some comment\n{pem}"));
    sandbox.refuse(&issue(&[]), "no name is given");
    sandbox.refuse(&issue(&["--as-requested"]), "no name is given");
    sandbox.refuse(
        &issue(&["--subject", "CN=web", "--usage", "server"]),
        "a server certificate needs a subject alternative name",
    );
    sandbox.succeed(&issue(&["--dns", "web.test"]));
    sandbox.leaf("web", |leaf| assert_eq!(leaf.names.dns, ["web.test"]));
}

#[test]
fn what_is_asked_for_is_held_to_the_same_rules_as_any_name() {
    let sandbox = Sandbox::with_pki();
    for (name, why) in [
        ("spiffe://Acme.test/a", "is not a SPIFFE ID"),
        ("x://\u{1b}[2J", "percent-encoded"),
        ("a..b", "is not a DNS name"),
    ] {
        sandbox.write("web.csr", ask(&[name]).pem);
        sandbox.refuse(&issue(&["--as-requested"]), why);
    }
}

#[test]
fn a_request_whose_sender_may_not_hold_the_key_is_refused() {
    let sandbox = Sandbox::with_pki();
    let pem = ask(&["web.test"]).pem;
    // The last lines are the signature; one digit of it is exchanged.
    let last_line = pem.trim_end().rsplit('\n').nth(1).unwrap();
    let other_digit = if last_line.starts_with('A') { "B" } else { "A" };
    let forged = pem.replace(last_line, &format!("{other_digit}{}", &last_line[1..]));
    assert_ne!(forged, pem);
    sandbox.write("web.csr", forged);
    sandbox.refuse(
        &issue(&["--as-requested"]),
        "web.csr: its signature does not verify with its own key",
    );
}

#[test]
fn what_is_no_request_is_refused_with_its_file() {
    let sandbox = Sandbox::with_pki();
    let asked = ask(&["web.test"]);
    for (contents, why) in [
        (&b""[..], "web.csr: it holds no certificate signing request"),
        (
            asked.key.serialize_pem().as_bytes(),
            "web.csr: line 1: a section of PRIVATE KEY does not belong here",
        ),
        (
            format!("{}{}", asked.pem, asked.key.serialize_pem()).as_bytes(),
            "a section of PRIVATE KEY does not belong here",
        ),
        (
            &asked.pem.as_bytes()[..200],
            "web.csr: line 1: it is cut off",
        ),
        (
            &asked.der,
            "web.csr: it is DER, not PEM: convert it with `openssl req -inform DER",
        ),
        (
            format!("\n{}{}", asked.pem, ask(&[]).pem).as_bytes(),
            "web.csr: it holds more than one signing request, on lines 2 and ",
        ),
        (
            format!("x\ncsr = \"{}\"", asked.pem).as_bytes(),
            "web.csr: line 2: a marker is -----BEGIN LABEL-----",
        ),
    ] {
        sandbox.write("web.csr", contents);
        sandbox.refuse(&issue(&["--as-requested"]), why);
    }
    sandbox.refuse(
        &["pki", "issue", "web", "--csr", "certs", "--as-requested"],
        "cannot read certs",
    );
}

#[test]
fn a_request_is_read_with_other_line_ends_a_byte_order_mark_or_blanks() {
    for change in [
        |pem: &str| pem.replace('\n', "\r\n"),
        |pem: &str| format!("\u{feff}{pem}"),
        |pem: &str| pem.replace("-----\nM", "-----\n    M"),
        |pem: &str| pem.replace(" CERTIFICATE", " NEW CERTIFICATE"),
        |pem: &str| format!("Certificate Request:\n{pem}\n"),
    ] {
        let sandbox = Sandbox::with_pki();
        sandbox.write("web.csr", change(&ask(&["web.test"]).pem));
        let said = sandbox.succeed(&issue(&["--as-requested"]));
        assert!(said.contains("issued"), "{said}");
    }
}

#[test]
fn a_signature_of_another_algorithm_is_not_called_a_bad_one() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::with_pki();
    let make = |key: &[&str], hash: &str| {
        let command = [
            &[
                "req", "-new", "-nodes", "-subj", "/CN=web", "-keyout", "web.key",
            ][..],
            key,
            &["-out", "web.csr", hash],
        ]
        .concat();
        let (made, said) = run_other(&sandbox, "openssl", &command);
        assert!(made, "{said}");
    };
    let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let rsa = ["-newkey", "rsa:2048"];
    for (key, hash) in [
        (&p256[..], "-sha256"),
        (&p256, "-sha384"),
        (&rsa, "-sha256"),
        (&rsa, "-sha384"),
        (&rsa, "-sha512"),
        (&["-newkey", "ed25519"], "-sha256"),
    ] {
        make(key, hash);
        let said = sandbox.succeed(&issue(&["--dns", "web.test", "--replace"]));
        assert!(
            said.contains("web.test") || said.contains("valid until"),
            "{said}"
        );
    }
    make(&p256, "-sha512");
    sandbox.refuse(
        &issue(&["--dns", "web.test", "--replace"]),
        "web.csr: it is signed by ECDSA with SHA-512",
    );
}
