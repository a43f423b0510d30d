//! The authority in memory, held against rustls-webpki: what is right verifies, and each fault is found as
//! what it is.

use std::time::Duration;

use countersign_cli::pki::certificate::Certificate;
use countersign_cli::pki::{
    Authority, KeyType, Leaf, LeafSpec, Purpose, Revocation, Serial, Validity,
};
use pki_types::pem::PemObject as _;
use pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use time::OffsetDateTime;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, Error, KeyUsage,
    RevocationOptionsBuilder, anchor_from_trusted_cert,
};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

fn a_day() -> Validity {
    Validity::starting(now(), DAY).unwrap()
}

struct Pki {
    root: Authority,
    issuing: Authority,
}

impl Pki {
    fn new() -> Self {
        let root = Authority::root("root", a_day()).unwrap();
        let issuing = root.issuing("issuing", a_day()).unwrap();
        Self { root, issuing }
    }

    fn verify(&self, leaf: &Leaf, usage: KeyUsage, crl: Option<&str>) -> Result<(), Error> {
        let crl =
            crl.map(|pem| CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap());
        let crl: Option<CertRevocationList<'_>> = crl.as_ref().map(|der| {
            BorrowedCertRevocationList::from_der(der)
                .unwrap()
                .to_owned()
                .unwrap()
                .into()
        });
        let lists: Vec<_> = crl.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|it| {
            it.with_depth(webpki::RevocationCheckDepth::EndEntity)
                .build()
        });
        let anchor = anchor_from_trusted_cert(self.root.certificate()).unwrap();
        let end_entity = EndEntityCert::try_from(&leaf.chain[0])?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        end_entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &leaf.chain[1..],
                time,
                usage,
                revocation,
                None,
            )
            .map(drop)
    }
}

fn client() -> LeafSpec {
    LeafSpec {
        uris: vec!["spiffe://acme.test/orders".to_owned()],
        ..LeafSpec::client(a_day())
    }
}

#[test]
fn a_leaf_of_each_kind_of_key_verifies_for_its_purpose_and_for_no_other() {
    let pki = Pki::new();
    for key_type in [KeyType::P256, KeyType::Ed25519, KeyType::Rsa2048] {
        let leaf = pki
            .issuing
            .issue(&LeafSpec {
                key_type,
                ..client()
            })
            .unwrap();
        pki.verify(&leaf, KeyUsage::client_auth(), None).unwrap();
        let refused = pki
            .verify(&leaf, KeyUsage::server_auth(), None)
            .unwrap_err();
        assert!(
            matches!(refused, Error::RequiredEkuNotFoundContext(_)),
            "{refused:?}"
        );
        let parsed = Certificate::from_der(&leaf.chain[0]).unwrap();
        assert_eq!(parsed.key_type, Some(key_type));
        assert_eq!(parsed.serial, leaf.serial);
        let issuer = Certificate::from_der(pki.issuing.certificate()).unwrap();
        let root = Certificate::from_der(pki.root.certificate()).unwrap();
        assert!(parsed.is_signed_by(&issuer) && parsed.names_issuer(&issuer));
        assert!(!parsed.is_signed_by(&root) && !parsed.names_issuer(&root));
    }
}

#[test]
fn what_was_asked_for_is_what_the_certificate_says() {
    let pki = Pki::new();
    let spec = LeafSpec {
        dns: vec!["localhost".to_owned(), "*.acme.test".to_owned()],
        ips: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        emails: vec!["ops@acme.test".to_owned()],
        subject: Some("CN=Doe\\, John,OU=batch,O=Acme,C=US".parse().unwrap()),
        purposes: vec![
            Purpose::Server,
            Purpose::Client,
            Purpose::Other(vec![1, 2, 3]),
        ],
        ..client()
    };
    let leaf = pki.issuing.issue(&spec).unwrap();
    let parsed = Certificate::from_der(&leaf.chain[0]).unwrap();
    assert_eq!(LeafSpec::like(&parsed, parsed.validity).unwrap(), spec);
    assert_eq!(
        parsed.subject().unwrap(),
        "CN=Doe\\, John,OU=batch,O=Acme,C=US"
    );
    let end_entity = EndEntityCert::try_from(&leaf.chain[0]).unwrap();
    for name in ["localhost", "a.acme.test", "127.0.0.1", "::1"] {
        let name = ServerName::try_from(name).unwrap();
        end_entity.verify_is_valid_for_subject_name(&name).unwrap();
    }
}

#[test]
fn every_fault_can_be_made_and_is_found() {
    let pki = Pki::new();
    let at = |seconds: i64| now() + time::Duration::seconds(seconds);
    let validity = |not_before, not_after| Validity {
        not_before: at(not_before),
        not_after: at(not_after),
    };
    type Found = fn(&Error) -> bool;
    let rows: [(&str, LeafSpec, Found); 5] = [
        (
            "expired",
            LeafSpec {
                validity: validity(-20, -10),
                ..client()
            },
            |e| matches!(e, Error::CertExpired { .. }),
        ),
        (
            "not yet valid",
            LeafSpec {
                validity: validity(10, 20),
                ..client()
            },
            |e| matches!(e, Error::CertNotValidYet { .. }),
        ),
        (
            "for servers",
            LeafSpec {
                purposes: vec![Purpose::Server],
                ..client()
            },
            |e| matches!(e, Error::RequiredEkuNotFoundContext(_)),
        ),
        (
            "for signing code",
            LeafSpec {
                purposes: vec![Purpose::CodeSigning],
                ..client()
            },
            |e| matches!(e, Error::RequiredEkuNotFoundContext(_)),
        ),
        (
            "an authority",
            LeafSpec {
                authority: true,
                ..client()
            },
            |e| matches!(e, Error::CaUsedAsEndEntity),
        ),
    ];
    for (fault, spec, found) in rows {
        let leaf = pki.issuing.issue(&spec).unwrap();
        let refused = pki
            .verify(&leaf, KeyUsage::client_auth(), None)
            .unwrap_err();
        assert!(found(&refused), "{fault}: {refused:?}");
    }
}

#[test]
fn the_faults_that_only_our_identity_rules_find_are_found_there() {
    let pki = Pki::new();
    let two = ["spiffe://acme.test/a", "spiffe://acme.test/b"]
        .map(str::to_owned)
        .to_vec();
    for (code, spec) in [
        (
            "WRONG_PURPOSE",
            LeafSpec {
                purposes: Vec::new(),
                ..client()
            },
        ),
        (
            "SPIFFE_ID_AMBIGUOUS",
            LeafSpec {
                uris: two,
                ..client()
            },
        ),
        ("NAMELESS", LeafSpec::client(a_day())),
        (
            "NAME_MALFORMED",
            LeafSpec {
                dns: vec!["a\nb".to_owned()],
                ..client()
            },
        ),
        (
            "NAME_MALFORMED",
            LeafSpec {
                subject: Some("CN=a\\0ab".parse().unwrap()),
                ..client()
            },
        ),
    ] {
        let leaf = pki.issuing.issue(&spec).unwrap();
        pki.verify(&leaf, KeyUsage::client_auth(), None).unwrap();
        let invalid = identity::Peer::from_verified_path(identity::Role::Client, &leaf.chain);
        assert_eq!(invalid.unwrap_err().code(), code);
    }
}

#[test]
fn a_name_that_is_not_ascii_is_refused_and_not_mangled() {
    let pki = Pki::new();
    let spec = LeafSpec {
        dns: vec!["zürich.test".to_owned()],
        ..client()
    };
    let refused = pki.issuing.issue(&spec).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("DNS name \"zürich.test\" cannot"),
        "{refused}"
    );
}

#[test]
fn a_revoked_leaf_is_refused_and_the_others_are_not() {
    let pki = Pki::new();
    let [lost, kept] = [(); 2].map(|()| pki.issuing.issue(&client()).unwrap());
    let revoked = [Revocation {
        serial: lost.serial.clone(),
        at: now(),
    }];
    let Validity {
        not_before,
        not_after,
    } = a_day();
    let crl = pki.issuing.crl(7, &revoked, not_before, not_after).unwrap();
    let empty = pki
        .issuing
        .crl(u64::MAX, &[], not_before, not_after)
        .unwrap();
    let usage = KeyUsage::client_auth;
    assert_eq!(
        pki.verify(&lost, usage(), Some(&crl)),
        Err(Error::CertRevoked)
    );
    assert_eq!(pki.verify(&lost, usage(), Some(&empty)), Ok(()));
    assert_eq!(pki.verify(&kept, usage(), Some(&crl)), Ok(()));
    pki.issuing.crl(1, &[], not_after, not_before).unwrap_err();
}

#[test]
fn the_issuing_authority_certifies_no_further_one() {
    let pki = Pki::new();
    let below = pki.issuing.issuing("below", a_day()).unwrap();
    let leaf = below.issue(&client()).unwrap();
    assert_eq!(leaf.chain.len(), 3);
    let refused = pki
        .verify(&leaf, KeyUsage::client_auth(), None)
        .unwrap_err();
    assert_eq!(refused, Error::PathLenConstraintViolated);
}

#[test]
fn another_root_is_a_stranger_also_when_it_has_the_same_name() {
    let ours = Pki::new();
    for (name, refusal) in [
        ("other", Error::UnknownIssuer),
        ("root", Error::InvalidSignatureForPublicKey),
    ] {
        let root = Authority::root(name, a_day()).unwrap();
        let leaf = root
            .issuing("issuing", a_day())
            .unwrap()
            .issue(&client())
            .unwrap();
        assert_eq!(
            ours.verify(&leaf, KeyUsage::client_auth(), None),
            Err(refusal)
        );
    }
}

#[test]
fn an_authority_that_was_read_back_signs_as_before() {
    let pki = Pki::new();
    let read = Authority::from_pem(pki.issuing.certificate_pem(), &pki.issuing.key_pem()).unwrap();
    let leaf = read.issue(&client()).unwrap();
    pki.verify(&leaf, KeyUsage::client_auth(), None).unwrap();
    assert_eq!(leaf.chain[1], *pki.issuing.certificate());
    let Validity {
        not_before,
        not_after,
    } = a_day();
    let revoked = [Revocation {
        serial: leaf.serial.clone(),
        at: now(),
    }];
    let crl = read.crl(1, &revoked, not_before, not_after).unwrap();
    let refused = pki.verify(&leaf, KeyUsage::client_auth(), Some(&crl));
    assert_eq!(refused, Err(Error::CertRevoked));
}

#[test]
fn what_is_no_authority_is_refused() {
    let pki = Pki::new();
    let leaf = pki.issuing.issue(&client()).unwrap();
    let (certificate, key) = (pki.root.certificate_pem(), &pki.root.key_pem());
    for (certificate, key, why) in [
        (
            certificate,
            &*pki.issuing.key_pem(),
            "not that of the certificate",
        ),
        (&*leaf.chain_pem, &leaf.key_pem, "not a CA certificate"),
        ("", key, "holds no certificate"),
        (key, key, "holds no certificate"),
        (certificate, "", "holds no private key"),
        (certificate, certificate, "holds no private key"),
    ] {
        let refused = Authority::from_pem(certificate, key)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn secrets_are_not_in_debug_output() {
    let pki = Pki::new();
    let leaf = pki.issuing.issue(&client()).unwrap();
    let shown = format!("{leaf:?} {:?}", pki.issuing);
    assert!(
        !shown.contains("PRIVATE") && shown.contains("[elided]"),
        "{shown}"
    );
}

#[test]
fn bytes_that_are_no_certificate_are_refused_without_a_panic() {
    let pki = Pki::new();
    let good = pki.issuing.issue(&client()).unwrap().chain.remove(0);
    for length in 0..good.len() {
        Certificate::from_der(&CertificateDer::from(&good[..length])).unwrap_err();
    }
    for (at, mask) in (0..good.len()).flat_map(|at| [(at, 0xff), (at, 0x01), (at, 0x80)]) {
        let mut bad = good.to_vec();
        bad[at] ^= mask;
        drop(Certificate::from_der(&CertificateDer::from(bad)));
    }
    let longer = [&good[..], &[0]].concat();
    Certificate::from_der(&CertificateDer::from(longer)).unwrap_err();
    assert!(Serial::from_octets(&[]).is_err());
}

#[test]
fn an_issuer_is_named_in_any_spelling_of_its_name_and_by_its_key() {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, Issuer, KeyPair};
    let utf8 = |name: &str| DnValue::Utf8String(name.to_owned());
    let printable = |name: &str| DnValue::PrintableString(name.try_into().unwrap());
    let named = |name: DnValue| {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let (key, another) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let authority = named(utf8("Acme Issuing")).self_signed(&key).unwrap();
    let authority = Certificate::from_der(authority.der()).unwrap();
    for (name, key, has_key_id, expected) in [
        (utf8("Acme Issuing"), &key, true, true),
        (printable("Acme Issuing"), &key, true, true),
        (printable("ACME  issuing"), &key, true, true),
        (utf8("Acme Issuing 2"), &key, true, false),
        (utf8("Acme Issuing"), &another, true, false),
        (printable("Acme Issuing"), &another, true, false),
        (utf8("Acme Issuing"), &another, false, true),
        (utf8("Acme"), &another, false, false),
    ] {
        let what = format!("{name:?}, {has_key_id}");
        let mut leaf = CertificateParams::default();
        leaf.use_authority_key_identifier_extension = has_key_id;
        let issuer = Issuer::new(named(name), key);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer);
        let leaf = Certificate::from_der(leaf.unwrap().der()).unwrap();
        assert_eq!(leaf.names_issuer(&authority), expected, "{what}");
    }
}
