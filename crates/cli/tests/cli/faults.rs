//! One certificate for each thing that goes wrong, with what our verifier and openssl say to it.

use std::time::Duration;

use countersign_cli::pki::{Authority, Leaf, LeafSpec, Purpose, Revocation, Validity};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use time::OffsetDateTime;

/// What a verifier says: `None` is yes, and `Some` what the no has in it.
type Answer = Option<&'static str>;

/// A chain, how it is asked about, and the answers.
pub(crate) struct FaultyChain {
    /// Also that of its row in docs/interop.md, when the two disagree.
    pub(crate) name: &'static str,
    pub(crate) chain: String,
    pub(crate) purpose: &'static str,
    /// Who the holder must be.
    pub(crate) expected: Option<&'static str>,
    pub(crate) crl: Option<String>,
    pub(crate) ours: Answer,
    pub(crate) openssl: Answer,
}

/// The root that is trusted, and the faults.
pub(crate) struct Faults {
    pub(crate) root: String,
    pub(crate) all: Vec<FaultyChain>,
}

fn minutes(from: i64, to: i64) -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity {
        not_before: now + time::Duration::minutes(from),
        not_after: now + time::Duration::minutes(to),
    }
}

pub(crate) fn hour() -> Validity {
    Validity::starting(OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap()
}

pub(crate) fn client() -> LeafSpec {
    LeafSpec {
        uris: vec!["spiffe://acme.test/orders".to_owned()],
        ..LeafSpec::client(hour())
    }
}

pub(crate) fn server() -> LeafSpec {
    LeafSpec {
        dns: vec!["localhost".to_owned()],
        ips: vec!["127.0.0.1".parse().unwrap()],
        ..LeafSpec::server(hour())
    }
}

/// The first certificate of a chain, without the others.
pub(crate) fn alone(chain: &str) -> &str {
    chain
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap()
}

/// As `keytool -genkeypair` makes one, or as `openssl req -x509` does: a CA.
pub(crate) fn self_signed(is_ca: bool) -> String {
    let mut params = CertificateParams::default();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://acme.test/orders".try_into().unwrap(),
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

fn list(issuer: &Authority, revoked: &[&Leaf], next_update: i64) -> String {
    let now = OffsetDateTime::now_utc();
    let revoked: Vec<_> = revoked
        .iter()
        .map(|leaf| Revocation {
            serial: leaf.serial.clone(),
            at: now,
        })
        .collect();
    let ago = now - time::Duration::minutes(10);
    issuer
        .crl(1, &revoked, ago, now + time::Duration::minutes(next_update))
        .unwrap()
}

impl Faults {
    pub(crate) fn mint() -> Self {
        let root = Authority::root("root", hour()).unwrap();
        let issuing = root.issuing("issuing", hour()).unwrap();
        let issue = |spec: &LeafSpec| issuing.issue(spec).unwrap();
        let chain = |spec: &LeafSpec| issue(spec).chain_pem;
        let subject = |text: &str| Some(text.parse().unwrap());
        let good = issue(&client());
        let revoked = issue(&client());
        let stranger = Authority::root("another root", hour()).unwrap();
        let namesake = Authority::root("root", hour()).unwrap();
        let fault = |name, chain: String, ours, openssl| FaultyChain {
            name,
            chain,
            purpose: "client",
            expected: None,
            crl: None,
            ours,
            openssl,
        };
        let server_fault = |name, chain, expected, ours, openssl| FaultyChain {
            purpose: "server",
            expected: Some(expected),
            ..fault(name, chain, ours, openssl)
        };
        let crl_fault = |name, leaf: &Leaf, crl: String, ours, openssl| FaultyChain {
            crl: Some(crl),
            ..fault(name, leaf.chain_pem.clone(), ours, openssl)
        };
        let all = vec![
            fault("good", good.chain_pem.clone(), None, None),
            fault(
                "root sent along",
                good.chain_pem.clone() + root.certificate_pem(),
                None,
                None,
            ),
            fault(
                "leaf only",
                alone(&good.chain_pem).to_owned(),
                Some("UNKNOWN_ISSUER"),
                Some("unable to get local issuer certificate"),
            ),
            fault(
                "reversed",
                format!("{}{}", issuing.certificate_pem(), alone(&good.chain_pem)),
                Some("LEAF_IS_CA"),
                Some("unsuitable certificate purpose"),
            ),
            fault(
                "stranger",
                stranger.issue(&client()).unwrap().chain_pem,
                Some("UNKNOWN_ISSUER"),
                Some("unable to get local issuer certificate"),
            ),
            fault(
                "namesake",
                namesake.issue(&client()).unwrap().chain_pem,
                Some("BAD_SIGNATURE"),
                Some("unable to get local issuer certificate"),
            ),
            fault(
                "self-signed",
                self_signed(false),
                Some("UNKNOWN_ISSUER"),
                Some("self-signed certificate"),
            ),
            fault(
                "expired",
                chain(&LeafSpec {
                    validity: minutes(-9, -1),
                    ..client()
                }),
                Some("CERTIFICATE_EXPIRED"),
                Some("certificate has expired"),
            ),
            fault(
                "not yet valid",
                chain(&LeafSpec {
                    validity: minutes(5, 9),
                    ..client()
                }),
                Some("CERTIFICATE_NOT_YET_VALID"),
                Some("certificate is not yet valid"),
            ),
            fault(
                "wrong usage",
                chain(&LeafSpec {
                    purposes: vec![Purpose::Server],
                    ..client()
                }),
                Some("WRONG_PURPOSE"),
                Some("unsuitable certificate purpose"),
            ),
            fault(
                "no usage",
                chain(&LeafSpec {
                    purposes: Vec::new(),
                    ..client()
                }),
                Some("WRONG_PURPOSE"),
                None,
            ),
            fault(
                "any usage",
                chain(&LeafSpec {
                    purposes: vec![Purpose::Any],
                    ..client()
                }),
                Some("WRONG_PURPOSE"),
                Some("unsuitable certificate purpose"),
            ),
            fault(
                "leaf is a CA",
                chain(&LeafSpec {
                    authority: true,
                    subject: subject("CN=x"),
                    ..client()
                }),
                Some("LEAF_IS_CA"),
                None,
            ),
            fault(
                "two SPIFFE IDs",
                chain(&LeafSpec {
                    uris: vec![
                        "spiffe://acme.test/a".to_owned(),
                        "spiffe://acme.test/b".to_owned(),
                    ],
                    ..client()
                }),
                Some("SPIFFE_ID_AMBIGUOUS"),
                None,
            ),
            fault(
                "terminal escape",
                chain(&LeafSpec {
                    uris: vec!["x:\u{1b}[2J\n\0".to_owned()],
                    ..client()
                }),
                Some("NAME_MALFORMED"),
                None,
            ),
            fault(
                "ten thousand names",
                chain(&LeafSpec {
                    dns: (0..10_000).map(|n| format!("h{n}.test")).collect(),
                    ..client()
                }),
                Some("CERTIFICATE_MALFORMED"),
                None,
            ),
            fault(
                "a thousand names",
                chain(&LeafSpec {
                    dns: (0..1000).map(|n| format!("h{n}.test")).collect(),
                    ..client()
                }),
                Some("TOO_MANY_NAMES"),
                None,
            ),
            fault(
                "chain of a hundred",
                good.chain_pem.clone() + &issuing.certificate_pem().repeat(98),
                Some("CHAIN_TOO_LONG"),
                None,
            ),
            // A subject that a pattern over its text would take for an administrator's. It is mallory's.
            FaultyChain {
                expected: Some("spiffe://acme.test/mallory"),
                ..fault(
                    "mallory",
                    chain(&LeafSpec {
                        uris: vec!["spiffe://acme.test/mallory".to_owned()],
                        subject: subject("OU=CN\\=admin,CN=mallory"),
                        ..client()
                    }),
                    None,
                    None,
                )
            },
            FaultyChain {
                expected: Some("spiffe://acme.test/mallory"),
                ..fault(
                    "mallory again",
                    chain(&LeafSpec {
                        uris: vec!["spiffe://acme.test/mallory".to_owned()],
                        subject: subject("CN=mallory,O=x\\, CN=admin"),
                        ..client()
                    }),
                    None,
                    None,
                )
            },
            FaultyChain {
                expected: Some("spiffe://acme.test/catalog"),
                ..fault(
                    "another client",
                    good.chain_pem.clone(),
                    Some("WRONG_CLIENT"),
                    None,
                )
            },
            server_fault("server", chain(&server()), "localhost", None, None),
            server_fault(
                "server by address",
                chain(&server()),
                "127.0.0.1",
                None,
                None,
            ),
            server_fault(
                "another server",
                chain(&server()),
                "db.acme.test",
                Some("WRONG_SERVER"),
                Some("hostname mismatch"),
            ),
            server_fault(
                "no alternative name",
                chain(&LeafSpec {
                    dns: Vec::new(),
                    ips: Vec::new(),
                    subject: subject("CN=localhost"),
                    ..server()
                }),
                "localhost",
                Some("NO_SUBJECT_ALT_NAME"),
                None,
            ),
            server_fault(
                "address as DNS name",
                chain(&LeafSpec {
                    dns: vec!["127.0.0.1".to_owned()],
                    ips: Vec::new(),
                    ..server()
                }),
                "127.0.0.1",
                Some("WRONG_SERVER"),
                Some("IP address mismatch"),
            ),
            server_fault(
                "wildcard over two labels",
                chain(&LeafSpec {
                    dns: vec!["*.acme.test".to_owned()],
                    ..server()
                }),
                "a.b.acme.test",
                Some("WRONG_SERVER"),
                Some("hostname mismatch"),
            ),
            server_fault(
                "client as server",
                chain(&LeafSpec {
                    purposes: vec![Purpose::Client],
                    ..server()
                }),
                "localhost",
                Some("WRONG_PURPOSE"),
                Some("unsuitable certificate purpose"),
            ),
            crl_fault(
                "revoked",
                &revoked,
                list(&issuing, &[&revoked], 10),
                Some("CERTIFICATE_REVOKED"),
                Some("certificate revoked"),
            ),
            crl_fault(
                "another is revoked",
                &good,
                list(&issuing, &[&revoked], 10),
                None,
                None,
            ),
            crl_fault(
                "expired list",
                &good,
                list(&issuing, &[&revoked], -1),
                None,
                Some("CRL has expired"),
            ),
            crl_fault(
                "list of another issuer",
                &good,
                list(&stranger, &[], 10),
                None,
                Some("unable to get certificate CRL"),
            ),
        ];
        Self {
            root: root.certificate_pem().to_owned(),
            all,
        }
    }
}
