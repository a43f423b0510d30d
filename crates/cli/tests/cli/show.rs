//! `countersign cert show`: on what is right, and on anything else.

use std::time::Duration;

use countersign_cli::pki::{Authority, LeafSpec, Purpose, Validity};
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, SanType};
use time::OffsetDateTime;

use crate::tool::{Sandbox, is_missing, run_other};

fn issuing() -> Authority {
    let root = Authority::root("root", an_hour()).unwrap();
    root.issuing("issuing", an_hour()).unwrap()
}

fn an_hour() -> Validity {
    Validity::starting(OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap()
}

fn client() -> LeafSpec {
    LeafSpec {
        uris: vec!["spiffe://acme.test/orders".to_owned()],
        ..LeafSpec::client(an_hour())
    }
}

#[test]
fn the_name_that_counts_is_the_one_of_grfc_a41() {
    let sandbox = Sandbox::empty();
    let issuing = issuing();
    let all = LeafSpec {
        uris: vec![
            "https://acme.test/a".to_owned(),
            "https://acme.test/b".to_owned(),
        ],
        dns: vec!["a.acme.test".to_owned()],
        subject: Some("CN=a".parse().unwrap()),
        ..client()
    };
    let dns = LeafSpec {
        uris: Vec::new(),
        ..all.clone()
    };
    let subject = LeafSpec {
        dns: Vec::new(),
        ..dns.clone()
    };
    for (spec, principal) in [
        (all, "https://acme.test/a"),
        (dns, "a.acme.test"),
        (subject, "CN=a"),
    ] {
        sandbox.write("leaf.pem", issuing.issue(&spec).unwrap().chain_pem);
        let shown = sandbox.json(&["cert", "show", "leaf.pem"]);
        assert_eq!(shown["as_client"]["identified"]["principal"], principal);
        assert_eq!(shown["as_server"]["refused"]["code"], "WRONG_PURPOSE");
        assert_eq!(shown["problems"].as_array().unwrap().len(), 0);
        let text = sandbox.succeed(&["cert", "show", "leaf.pem"]);
        assert!(
            text.contains(&format!("as client  identified as {principal}\n")),
            "{text}"
        );
    }
}

#[test]
fn every_problem_is_named() {
    let sandbox = Sandbox::empty();
    let now = OffsetDateTime::now_utc();
    let minutes = |from, to| Validity {
        not_before: now + time::Duration::minutes(from),
        not_after: now + time::Duration::minutes(to),
    };
    let issuing = issuing();
    let pem = |spec: &LeafSpec| issuing.issue(spec).unwrap().chain_pem;
    let two = ["spiffe://acme.test/a", "spiffe://acme.test/b"]
        .map(str::to_owned)
        .to_vec();
    let leaf = issuing.issue(&client()).unwrap();
    let alone = leaf
        .chain_pem
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    let reversed = format!("{}{alone}", issuing.certificate_pem());
    let root = Authority::root("root", an_hour()).unwrap();
    let with_root = root.issue(&client()).unwrap().chain_pem + root.certificate_pem();
    for (file, why) in [
        (
            pem(&LeafSpec {
                validity: minutes(-9, -1),
                ..client()
            }),
            "certificate 1 expired on",
        ),
        (
            pem(&LeafSpec {
                validity: minutes(1, 9),
                ..client()
            }),
            "certificate 1 is not valid before",
        ),
        (
            pem(&LeafSpec {
                purposes: Vec::new(),
                ..client()
            }),
            "usages     (no such extension)",
        ),
        (
            pem(&LeafSpec {
                purposes: Vec::new(),
                ..client()
            }),
            "as client  refused: WRONG_PURPOSE",
        ),
        (
            pem(&LeafSpec {
                purposes: vec![Purpose::CodeSigning],
                ..client()
            }),
            "usages     codeSigning",
        ),
        (
            pem(&LeafSpec {
                authority: true,
                ..client()
            }),
            "as client  refused: LEAF_IS_CA",
        ),
        (
            pem(&LeafSpec {
                uris: two,
                ..client()
            }),
            "as client  refused: SPIFFE_ID_AMBIGUOUS",
        ),
        (
            pem(&LeafSpec {
                uris: Vec::new(),
                ..client()
            }),
            "as client  refused: NAMELESS",
        ),
        (alone.to_owned(), "nothing comes after it"),
        (reversed, "certificate 1 was not issued by the one after it"),
        (with_root, "the root is sent along"),
    ] {
        sandbox.write("leaf.pem", file);
        let shown = sandbox.succeed(&["cert", "show", "leaf.pem"]);
        assert!(shown.contains(why), "{why}: {shown}");
    }
}

/// A client certificate with one change.
fn self_made(key: &rcgen::KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://acme.test/orders".try_into().unwrap(),
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    params.self_signed(key).unwrap().pem()
}

#[test]
fn what_the_verifier_refuses_under_any_root_is_shown_with_its_code() {
    let sandbox = Sandbox::empty();
    let p256 = rcgen::KeyPair::generate().unwrap();
    let policies = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 32], vec![0x30, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    };
    for (name, chain, why) in [
        (
            "policies",
            self_made(&p256, policies),
            "refused: CERTIFICATE_MALFORMED: the certificate is malformed: it has an unsupported critical extension: \
             2.5.29.32",
        ),
        (
            "long",
            self_made(&p256, |_| ()).repeat(9),
            "refused: CHAIN_TOO_LONG",
        ),
    ] {
        sandbox.write(name, &chain);
        let shown = sandbox.succeed(&["cert", "show", name]);
        for side in ["client", "server"] {
            let line = format!("  as {side}  {why}");
            assert!(shown.contains(&line), "{line}: {shown}");
        }
    }
    // In the same words as the verifier.
    let root = issuing();
    sandbox.write("root", root.certificate_pem());
    let verify = |file| {
        sandbox.run(&[
            "cert",
            "verify",
            "--ca",
            "root",
            "--purpose",
            "client",
            file,
        ])
    };
    let said = verify("policies").out;
    assert!(
        said.contains("unsupported critical extension: 2.5.29.32"),
        "{said}"
    );
}

#[test]
fn a_key_that_no_handshake_accepts_is_shown_with_its_code() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::empty();
    let words = "req -x509 -newkey rsa:1024 -nodes -keyout key -out weak.crt -days 1 -subj /CN=x \
                 -addext extendedKeyUsage=clientAuth -addext basicConstraints=critical,CA:FALSE \
                 -addext subjectAltName=URI:spiffe://acme.test/orders";
    let words: Vec<&str> = words.split_whitespace().collect();
    let (made, said) = run_other(&sandbox, "openssl", &words);
    assert!(made, "{said}");
    let shown = sandbox.succeed(&["cert", "show", "weak.crt"]);
    assert!(
        shown.contains("  as client  refused: KEY_NOT_ACCEPTED: "),
        "{shown}"
    );
}

#[test]
fn no_name_commands_the_terminal_or_begins_a_line() {
    let sandbox = Sandbox::empty();
    let evil = "a\u{1b}[2J\nas client  identified as root\r\u{7}".to_owned();
    let spec = LeafSpec {
        uris: vec![evil.clone()],
        dns: vec![evil.clone()],
        emails: vec![evil],
        subject: Some("CN=\u{202e}\\1b[31m\\0aabc".parse().unwrap()),
        ..client()
    };
    sandbox.write("leaf.pem", issuing().issue(&spec).unwrap().chain_pem);
    let text = sandbox.succeed(&["cert", "show", "leaf.pem"]);
    assert!(text.contains("DNS a\\u{1b}[2J\\nas client"), "{text}");
    for output in [
        text,
        sandbox.succeed(&["cert", "show", "leaf.pem", "--output", "json"]),
    ] {
        assert!(
            !output.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{output:?}"
        );
        assert!(
            !output
                .lines()
                .any(|line| line.trim_start().starts_with("as client  identified"))
        );
    }
}

#[test]
fn many_names_are_counted() {
    let sandbox = Sandbox::empty();
    let dns = (0..1000)
        .map(|index| format!("host-{index}.acme.test"))
        .collect();
    sandbox.write(
        "leaf.pem",
        issuing()
            .issue(&LeafSpec { dns, ..client() })
            .unwrap()
            .chain_pem,
    );
    let text = sandbox.succeed(&["cert", "show", "leaf.pem"]);
    assert!(
        text.contains("and 981 more") && text.contains("TOO_MANY_NAMES"),
        "{text}"
    );
}

#[test]
fn der_is_read_as_it_is() {
    let sandbox = Sandbox::empty();
    sandbox.write("leaf.der", &issuing().issue(&client()).unwrap().chain[0]);
    let shown = sandbox.succeed(&["cert", "show", "leaf.der"]);
    assert!(
        shown.contains("as client  identified as spiffe://acme.test/orders"),
        "{shown}"
    );
}

#[test]
fn whatever_is_no_certificate_is_refused_in_one_line() {
    let sandbox = Sandbox::empty();
    let leaf = issuing().issue(&client()).unwrap();
    let der = &leaf.chain[0];
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    let noise: Vec<u8> = (0..10_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let damaged = leaf.chain_pem.replacen("MII", "!!!", 1);
    let longer = [der, &b"x"[..]].concat();
    let files: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "holds no certificate"),
        ("text", b"hello\nworld\n", "holds no certificate"),
        ("key", leaf.key_pem.as_bytes(), "holds no certificate"),
        ("noise", &noise, "larger than 1048576 bytes"),
        ("short noise", &noise[1..4096], "bytes that are no text"),
        (
            "truncated PEM",
            &leaf.chain_pem.as_bytes()[..300],
            "not well-formed PEM",
        ),
        ("damaged PEM", damaged.as_bytes(), "not well-formed PEM"),
        (
            "truncated DER",
            &der[..der.len() - 1],
            "not a well-formed certificate",
        ),
        ("longer DER", &longer, "bytes after its end"),
    ];
    for (name, contents, why) in files {
        sandbox.write(name, contents);
        sandbox.refuse(&["cert", "show", name], why);
    }
    sandbox.refuse(&["cert", "show", "directory"], "cannot read directory");
    sandbox.refuse(&["cert", "show", "/dev/zero"], "not a regular file");
    sandbox.refuse(&["cert", "show", "missing"], "cannot read missing");
    sandbox.refuse(
        &["cert", "show", "a\u{1b}[31m\nb"],
        "cannot read a\\u{1b}[31m\\nb",
    );
}

#[test]
fn a_very_long_chain_is_shown() {
    let sandbox = Sandbox::empty();
    let issuing = issuing();
    let chain = issuing.issue(&client()).unwrap().chain_pem + &issuing.certificate_pem().repeat(99);
    sandbox.write("chain.pem", chain);
    assert!(
        sandbox
            .succeed(&["cert", "show", "chain.pem"])
            .starts_with("chain.pem: 101 certificates")
    );
}
