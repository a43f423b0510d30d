//! `pki init` and scripts/certs-openssl make the same PKI: one list of properties, held against both.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign_cli::pki::certificate::Certificate;
use countersign_cli::pki::{KeyType, Purpose, Revocations};
use pki_types::CertificateDer;
use pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::tool::{Sandbox, is_missing, run_other};

struct Row {
    name: &'static str,
    side: &'static str,
    names: &'static [&'static str],
    subject: &'static str,
}

const fn client(name: &'static str, names: &'static [&'static str]) -> Row {
    Row {
        name,
        side: "client",
        names,
        subject: "",
    }
}

const ROWS: [Row; 7] = [
    Row {
        side: "server",
        ..client(
            "inventory",
            &[
                "spiffe://acme.test/inventory",
                "localhost",
                "127.0.0.1",
                "::1",
            ],
        )
    },
    client("orders", &["spiffe://acme.test/orders"]),
    client("catalog", &["spiffe://acme.test/catalog"]),
    client("auditor", &["spiffe://acme.test/auditor"]),
    client("marketing", &["spiffe://acme.test/marketing"]),
    client("billing", &["billing.acme.test"]),
    Row {
        subject: "CN=mainframe,OU=batch,O=Acme,C=US",
        ..client("mainframe", &[])
    },
];

/// What must be true of a PKI, whoever made it.
fn has_every_property(sandbox: &Sandbox) {
    let pem = |file: &str| sandbox.read(&format!("certs/{file}"));
    let der = |file: &str| CertificateDer::from_pem_slice(pem(file).as_bytes()).unwrap();
    let (root, issuing) = (der("ca/root.crt"), der("ca/issuing.crt"));
    is_authority(&root, None);
    is_authority(&issuing, Some(0));
    let (root, issuing) = (
        Certificate::from_der(&root).unwrap(),
        Certificate::from_der(&issuing).unwrap(),
    );
    assert!(root.is_self_issued() && root.is_signed_by(&root));
    assert!(issuing.names_issuer(&root) && issuing.is_signed_by(&root));
    assert_ne!(root.subject().unwrap(), issuing.subject().unwrap());

    let mut serials = BTreeSet::new();
    for row in &ROWS {
        let Row {
            name,
            side,
            names,
            subject,
        } = row;
        let purpose = match *side {
            "server" => Purpose::Server,
            _ => Purpose::Client,
        };
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem(&format!("{name}/tls.crt")).as_bytes())
                .collect::<Result<_, _>>()
                .unwrap();
        assert_eq!(chain[1..], [der("ca/issuing.crt")], "{name}");
        is_leaf(&chain[0], subject.is_empty());
        let leaf = Certificate::from_der(&chain[0]).unwrap();
        assert!(
            leaf.names_issuer(&issuing) && leaf.is_signed_by(&issuing),
            "{name}"
        );
        assert_eq!(leaf.key_type, Some(KeyType::P256), "{name}");
        assert_eq!(leaf.purposes.as_ref().unwrap()[..], [purpose], "{name}");
        assert_eq!(leaf.subject().unwrap(), *subject, "{name}");
        let all = leaf.names.clone();
        let ips = all.ips.iter().map(ToString::to_string);
        let all: Vec<String> = all
            .uris
            .into_iter()
            .chain(all.dns)
            .chain(ips)
            .chain(all.emails)
            .collect();
        assert_eq!(all, *names, "{name}");
        let validity = leaf.validity;
        let hours = (validity.not_after - validity.not_before).whole_hours();
        assert_eq!(hours, 24, "{name}");
        assert_eq!(leaf.serial.octets().len(), 16, "{name}");
        assert!(serials.insert(leaf.serial.clone()), "{name}");

        assert_eq!(pem(&format!("{name}/ca.crt")), pem("ca/root.crt"), "{name}");
        let key = format!("certs/{name}/tls.key");
        assert!(
            sandbox
                .read(&key)
                .starts_with(&format!("-----BEGIN {}-----", "PRIVATE KEY")),
            "{name}"
        );
        assert_eq!(mode(&sandbox.path(&key)), 0o600, "{name}");
        let [ca, crl, chain] =
            ["ca.crt", "crl.pem", "tls.crt"].map(|file| format!("certs/{name}/{file}"));
        let mut verify = vec!["cert", "verify", "--purpose", side, "--ca", &ca, &chain];
        if sandbox.path(&crl).exists() {
            verify.extend(["--crl", &crl, "--refuse-expired-crl"]);
        }
        sandbox.succeed(&verify);
    }
    for key in ["ca/root.key", "ca/issuing.key"] {
        assert_eq!(mode(&sandbox.path(&format!("certs/{key}"))), 0o600);
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn is_authority(der: &CertificateDer<'_>, depth: Option<u32>) {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, depth);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert!(certificate.extended_key_usage().unwrap().is_none());
}

fn is_leaf(der: &CertificateDer<'_>, nameless: bool) {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
    // RFC 5280 §4.2.1.6: critical where there is no subject.
    let names = certificate.subject_alternative_name().unwrap();
    assert_eq!(names.is_some_and(|names| names.critical), nameless);
}

#[test]
fn the_tool_makes_a_pki_with_every_property_and_again_nothing() {
    let sandbox = Sandbox::with_pki();
    has_every_property(&sandbox);
    let before = sandbox.snapshot();
    sandbox.succeed(&["pki", "init"]);
    assert_eq!(sandbox.snapshot(), before);
}

fn script(sandbox: &Sandbox, arguments: &[&str]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/certs-openssl");
    run_other(sandbox, script.to_str().unwrap(), arguments)
}

#[test]
fn openssl_alone_makes_a_pki_with_every_property_and_again_nothing() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::with_identities();
    let (made, said) = script(&sandbox, &["certs"]);
    assert!(made, "{said}");
    has_every_property(&sandbox);
    let list = Revocations::from_pem(&sandbox.read("certs/orders/crl.pem")).unwrap();
    assert_eq!((list.number, list.entries.len()), (1, 0));
    let before = sandbox.snapshot();
    let (again, said) = script(&sandbox, &["certs"]);
    assert!(
        again && said.matches("kept").count() == ROWS.len(),
        "{said}"
    );
    assert_eq!(sandbox.snapshot(), before);
    // Ours keeps it too, and can go on with it.
    let said = sandbox.succeed(&["pki", "init"]);
    assert_eq!(said.matches("kept").count(), ROWS.len() + 1, "{said}");
    sandbox.succeed(&["pki", "renew", "orders"]);
    sandbox.succeed(&[
        "pki",
        "issue",
        "reports",
        "--uri",
        "spiffe://acme.test/reports",
    ]);
}

#[test]
fn what_openssl_revokes_is_revoked() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::empty();
    assert!(script(&sandbox, &["certs", "other.test"]).0);
    for _ in 0..2 {
        let (revoked, said) = script(&sandbox, &["certs", "--revoke", "orders"]);
        assert!(revoked, "{said}");
    }
    let verify = |name: &str| {
        let [ca, crl, chain] =
            ["ca.crt", "crl.pem", "tls.crt"].map(|file| format!("certs/{name}/{file}"));
        let arguments = [
            "cert",
            "verify",
            "--purpose",
            "client",
            "--ca",
            &ca,
            "--crl",
            &crl,
            &chain,
        ];
        sandbox.run(&arguments).out
    };
    assert!(
        verify("orders").starts_with("CERTIFICATE_REVOKED: "),
        "{}",
        verify("orders")
    );
    assert!(
        verify("catalog").contains("spiffe://other.test/catalog"),
        "{}",
        verify("catalog")
    );
}

#[test]
fn openssl_never_completes_an_authority_that_lacks_a_part() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::empty();
    assert!(script(&sandbox, &["certs"]).0);
    std::fs::remove_file(sandbox.path("certs/ca/root.key")).unwrap();
    let before = sandbox.snapshot();
    let (made, said) = script(&sandbox, &["certs"]);
    assert!(!made && said.contains("root.key is missing"), "{said}");
    assert_eq!(sandbox.snapshot(), before);
}
