//! `countersign cert show --for`: what each platform refuses of certificates that were minted for it.

use std::net::Ipv4Addr;
use std::time::Duration;

use countersign_cli::pki::{Authority, KeyType, LeafSpec, Purpose, Validity};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::Value;
use time::OffsetDateTime;

use crate::tool::{Sandbox, is_missing, run_other};

const PLATFORMS: [&str; 3] = ["macos", "chrome", "java"];

fn days(days: u64) -> Validity {
    let lifetime = Duration::from_secs(days * 86_400);
    Validity::starting(OffsetDateTime::now_utc(), lifetime).unwrap()
}

fn server() -> LeafSpec {
    LeafSpec {
        dns: vec!["localhost".to_owned()],
        ips: vec![Ipv4Addr::LOCALHOST.into()],
        ..LeafSpec::server(days(90))
    }
}

/// The codes of one role, by platform.
fn codes(sandbox: &Sandbox, file: &str, role: &str) -> [Vec<String>; 3] {
    let asked = PLATFORMS.map(|platform| ["--for", platform]).concat();
    let shown = sandbox.json(&[&["cert", "show", file], &asked[..]].concat());
    let opinions = shown["platforms"].as_array().unwrap();
    PLATFORMS.map(|platform| {
        let opinion = opinions
            .iter()
            .find(|opinion| opinion["platform"] == platform)
            .unwrap();
        of(&opinion["leaf"][role])
    })
}

fn of(objections: &Value) -> Vec<String> {
    let each = objections.as_array().unwrap().iter();
    each.map(|objection| objection["code"].as_str().unwrap().to_owned())
        .collect()
}

/// macOS, Chrome and Java.
type Expected = [&'static [&'static str]; 3];

const fn all(codes: &'static [&'static str]) -> Expected {
    [codes, codes, codes]
}

const NOTHING: Expected = all(&[]);

#[test]
fn each_platform_refuses_a_server_by_its_own_rules() {
    let root = Authority::root("root", days(4_000)).unwrap();
    let named = |name: &str| Some(name.parse().unwrap());
    let rows: [(&str, LeafSpec, Expected); 14] = [
        ("a sound one", server(), NOTHING),
        (
            "RSA with 2048 bits",
            LeafSpec {
                key_type: KeyType::Rsa2048,
                ..server()
            },
            NOTHING,
        ),
        (
            "no alternative name",
            LeafSpec {
                dns: vec![],
                ips: vec![],
                subject: named("CN=localhost"),
                ..server()
            },
            // Java takes the common name.
            [&["NO_HOST_NAME"], &["NO_HOST_NAME"], &[]],
        ),
        (
            "no name of a host, and no common name",
            LeafSpec {
                dns: vec![],
                ips: vec![],
                uris: vec!["spiffe://acme.test/inventory".to_owned()],
                subject: named("O=Acme"),
                ..server()
            },
            all(&["NO_HOST_NAME"]),
        ),
        (
            "an IP address under DNS",
            LeafSpec {
                dns: vec!["127.0.0.1".to_owned()],
                ips: vec![],
                ..server()
            },
            all(&["IP_AS_DNS"]),
        ),
        (
            "for clients",
            LeafSpec {
                purposes: vec![Purpose::Client],
                ..server()
            },
            all(&["WRONG_USAGE"]),
        ),
        (
            "for both",
            LeafSpec {
                purposes: vec![Purpose::Client, Purpose::Server],
                ..server()
            },
            NOTHING,
        ),
        (
            "for no named usage",
            LeafSpec {
                purposes: vec![],
                ..server()
            },
            [&["NO_USAGE"], &[], &[]],
        ),
        (
            "for any usage",
            LeafSpec {
                purposes: vec![Purpose::Any],
                ..server()
            },
            [&["WRONG_USAGE"], &[], &[]],
        ),
        // 398 days are for roots that Apple ships.
        (
            "399 days",
            LeafSpec {
                validity: days(399),
                ..server()
            },
            NOTHING,
        ),
        (
            "824 days",
            LeafSpec {
                validity: days(824),
                ..server()
            },
            NOTHING,
        ),
        (
            "826 days",
            LeafSpec {
                validity: days(826),
                ..server()
            },
            [&["VALID_TOO_LONG"], &[], &[]],
        ),
        (
            "ten years",
            LeafSpec {
                validity: days(3_650),
                ..server()
            },
            [&["VALID_TOO_LONG"], &[], &[]],
        ),
        (
            "Ed25519",
            LeafSpec {
                key_type: KeyType::Ed25519,
                ..server()
            },
            [&["KEY_UNSUPPORTED"], &["KEY_UNSUPPORTED"], &[]],
        ),
    ];
    let sandbox = Sandbox::empty();
    for (name, spec, expected) in rows {
        sandbox.write("leaf.pem", root.issue(&spec).unwrap().chain_pem);
        assert_eq!(codes(&sandbox, "leaf.pem", "as_server"), expected, "{name}");
    }
}

#[test]
fn a_client_needs_no_name_of_a_host_and_may_live_long() {
    let root = Authority::root("root", days(4_000)).unwrap();
    let client = || LeafSpec {
        uris: vec!["spiffe://acme.test/orders".to_owned()],
        ..LeafSpec::client(days(3_650))
    };
    let sandbox = Sandbox::empty();
    for (name, spec, expected) in [
        ("a sound one", client(), NOTHING),
        (
            "for servers",
            LeafSpec {
                purposes: vec![Purpose::Server],
                ..client()
            },
            all(&["WRONG_USAGE"]),
        ),
        (
            "for no named usage",
            LeafSpec {
                purposes: vec![],
                ..client()
            },
            NOTHING,
        ),
        (
            "Ed25519",
            LeafSpec {
                key_type: KeyType::Ed25519,
                ..client()
            },
            [&["KEY_UNSUPPORTED"], &["KEY_UNSUPPORTED"], &[]],
        ),
    ] {
        sandbox.write("leaf.pem", root.issue(&spec).unwrap().chain_pem);
        assert_eq!(codes(&sandbox, "leaf.pem", "as_client"), expected, "{name}");
    }
}

/// A self-signed server, as no authority of ours makes it.
fn self_made(
    key: &'static rcgen::SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> String {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Acme");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::now_utc();
    params.not_after = params.not_before + Duration::from_secs(86_400);
    change(&mut params);
    let key = KeyPair::generate_for(key).unwrap();
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn curves_and_key_usages_are_judged_as_each_platform_does() {
    let sandbox = Sandbox::empty();
    for (name, pem, expected) in [
        (
            "P-384",
            self_made(&rcgen::PKCS_ECDSA_P384_SHA384, |_| ()),
            NOTHING,
        ),
        (
            "P-521",
            self_made(&rcgen::PKCS_ECDSA_P521_SHA512, |_| ()),
            [&[][..], &["KEY_UNSUPPORTED"], &[]],
        ),
        (
            "a key that may not sign",
            self_made(&rcgen::PKCS_ECDSA_P256_SHA256, |params| {
                params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
            }),
            [&[], &["KEY_USAGE"], &["KEY_USAGE"]],
        ),
        (
            "names beside an address",
            self_made(&rcgen::PKCS_ECDSA_P256_SHA256, |params| {
                let address = "10.0.0.1".try_into().unwrap();
                params.subject_alt_names.push(SanType::DnsName(address));
            }),
            all(&["IP_AS_DNS"]),
        ),
    ] {
        sandbox.write("leaf.pem", pem);
        assert_eq!(codes(&sandbox, "leaf.pem", "as_server"), expected, "{name}");
    }
}

#[test]
fn what_openssl_still_makes_and_nobody_takes_is_named() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::empty();
    let mint = |arguments: &[&str]| {
        let (done, said) = run_other(&sandbox, "openssl", arguments);
        assert!(done, "{arguments:?}: {said}");
    };
    mint(&[
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.crt",
        "-subj", "/CN=root", "-days", "9",
    ]);
    let leaf = |key: &[&str], subject: &str, digest: &str, names: &str| {
        mint(
            &[
                &[
                    "req", "-new", "-nodes", "-keyout", "k", "-out", "c", "-subj", subject,
                    "-newkey",
                ],
                key,
            ]
            .concat(),
        );
        sandbox.write(
            "ext",
            format!("extendedKeyUsage=serverAuth\nsubjectAltName={names}\n"),
        );
        mint(&[
            "x509",
            "-req",
            "-in",
            "c",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-days",
            "9",
            digest,
            "-extfile",
            "ext",
            "-out",
            "leaf.pem",
        ]);
    };
    let cases: [(&[&str], &str, &str, &str, Expected); 5] = [
        (&["rsa:2048"], "/O=a", "-sha256", "DNS:localhost", NOTHING),
        (
            &["rsa:1536"],
            "/O=a",
            "-sha256",
            "DNS:localhost",
            [&["WEAK_KEY"], &[], &[]],
        ),
        (
            &["rsa:768"],
            "/O=a",
            "-sha256",
            "DNS:localhost",
            all(&["WEAK_KEY"]),
        ),
        (
            &["rsa:2048"],
            "/O=a",
            "-sha1",
            "DNS:localhost",
            [&["WEAK_SIGNATURE"], &["WEAK_SIGNATURE"], &[]],
        ),
        (
            &["rsa:2048"],
            "/",
            "-sha256",
            "DNS:localhost",
            [&[], &["NAMES_NOT_CRITICAL"], &["NAMES_NOT_CRITICAL"]],
        ),
    ];
    for (key, subject, digest, names, expected) in cases {
        leaf(key, subject, digest, names);
        let name = format!("{key:?} {subject} {digest}");
        assert_eq!(codes(&sandbox, "leaf.pem", "as_server"), expected, "{name}");
    }
}

#[test]
fn an_authority_is_judged_as_one() {
    let sandbox = Sandbox::empty();
    let root = Authority::root("root", days(4_000)).unwrap();
    sandbox.write("root.pem", root.certificate_pem());
    let text = sandbox.succeed(&["cert", "show", "root.pem", "--for", "macos"]);
    let line = "  macOS      as authority: no reason to refuse it was found\n";
    assert!(text.ends_with(line), "{text}");
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    sandbox.write("root.pem", params.self_signed(&key).unwrap().pem());
    let shown = sandbox.json(&["cert", "show", "root.pem", "--for", "chrome"]);
    let codes = of(&shown["platforms"][0]["authority"]["as_authority"]);
    assert_eq!(codes, ["SIGNATURE_UNSUPPORTED"]);
}

#[test]
fn the_reason_is_said_in_words_and_only_when_asked_for() {
    let sandbox = Sandbox::empty();
    let root = Authority::root("root", days(4_000)).unwrap();
    let long = LeafSpec {
        validity: days(900),
        ..server()
    };
    sandbox.write("leaf.pem", root.issue(&long).unwrap().chain_pem);
    let text = sandbox.succeed(&["cert", "show", "leaf.pem", "--for", "macos"]);
    let line = "  macOS      as server: refuses: VALID_TOO_LONG: it is valid for 900 days, and Apple accepts 825\n";
    assert!(text.contains(line), "{text}");
    let without = sandbox.succeed(&["cert", "show", "leaf.pem"]);
    assert!(!without.contains("macOS"), "{without}");
    sandbox.refuse(&["cert", "show", "leaf.pem", "--for", "amiga"], "amiga");
}

#[test]
fn a_pkcs12_file_is_judged_without_its_password() {
    let sandbox = Sandbox::with_pki();
    let export = [
        "pki",
        "export",
        "orders",
        "--p12",
        "new.p12",
        "--p12-compatible",
        "old.p12",
        "--password",
        "changeit",
    ];
    sandbox.succeed(&export);
    for (file, encryption, macos) in [
        (
            "new.p12",
            "PBES2 (AES)",
            "  macOS      refuses: PKCS12_MODERN",
        ),
        (
            "old.p12",
            "triple DES",
            "  macOS      no reason to refuse it was found",
        ),
    ] {
        let show = ["cert", "show", file, "--for", "macos", "--for", "java"];
        let text = sandbox.succeed(&show);
        let first = format!("{file}: PKCS#12; encryption: {encryption}\n");
        assert!(text.starts_with(&first), "{text}");
        assert!(text.contains(macos), "{text}");
        assert!(
            text.contains("  Java       no reason to refuse it was found\n"),
            "{text}"
        );
    }
}
