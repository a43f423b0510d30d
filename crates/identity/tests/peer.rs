//! What makes a peer of a certificate, and what does not. Each certificate is minted here, and each refusal has one cause.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use countersign_identity::{InvalidName, InvalidPeer, Peer, Role, distinguished_name};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

type Change = fn(&mut CertificateParams);

/// A certificate that nothing is wrong with, changed by `change`.
fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&[(DnType::CommonName, "orders")]);
    params.subject_alt_names = vec![uri("spiffe://acme.test/orders")];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2026, 12, 31);
    change(&mut params);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

fn name(attributes: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in attributes {
        name.push(kind.clone(), *value);
    }
    name
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

fn dns(dns: &str) -> SanType {
    SanType::DnsName(dns.try_into().unwrap())
}

/// A subject alternative name extension with one entry of any bytes, as no honest encoder writes it.
fn raw_san(tag: u8, value: &[u8]) -> CustomExtension {
    let entry = [&[tag, u8::try_from(value.len()).unwrap()], value].concat();
    let names = [&[0x30, u8::try_from(entry.len()).unwrap()], &*entry].concat();
    CustomExtension::from_oid_content(&[2, 5, 29, 17], names)
}

fn read(role: Role, der: &[u8]) -> Result<Peer, InvalidPeer> {
    Peer::from_verified_path(role, &[der])
}

#[test]
fn everything_that_a_leaf_says_is_in_the_peer() {
    let der = certificate(|params| {
        params.serial_number = Some(SerialNumber::from(vec![0xab, 0x01]));
        params.subject_alt_names = vec![
            uri("spiffe://acme.test/orders"),
            dns("Orders.acme.test"),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("::1".parse().unwrap()),
            SanType::Rfc822Name("orders@acme.test".try_into().unwrap()),
        ];
    });
    let peer = read(Role::Client, &der).unwrap();
    assert_eq!(peer.uri_sans(), ["spiffe://acme.test/orders"]);
    assert_eq!(
        peer.spiffe_id().unwrap().as_str(),
        "spiffe://acme.test/orders"
    );
    assert_eq!(peer.dns_sans(), ["Orders.acme.test"]);
    assert_eq!(
        peer.ip_sans(),
        [
            "10.0.0.1".parse::<IpAddr>().unwrap(),
            "::1".parse().unwrap()
        ]
    );
    assert_eq!(peer.email_sans(), ["orders@acme.test"]);
    assert_eq!((peer.subject(), peer.issuer()), ("CN=orders", "CN=orders"));
    assert_eq!(peer.serial(), "ab01");
    assert_eq!(peer.to_string(), "spiffe://acme.test/orders");
    let year = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 3600);
    assert_eq!(
        (peer.not_before(), peer.not_after()),
        (year(20_454), year(20_818))
    );
}

#[test]
fn the_validity_is_that_of_the_whole_path() {
    let leaf = certificate(|_| {});
    let short_lived_issuer = certificate(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2026, 2, 1);
        params.not_after = date_time_ymd(2026, 3, 1);
    });
    let alone = read(Role::Client, &leaf).unwrap();
    let both = Peer::from_verified_path(Role::Client, &[leaf, short_lived_issuer]).unwrap();
    assert!(both.not_before() > alone.not_before() && both.not_after() < alone.not_after());
}

#[test]
fn a_peer_goes_by_its_first_name_in_the_order_of_a41() {
    let rows: [(Change, &str); 5] = [
        (|_| {}, "spiffe://acme.test/orders"),
        (
            |p| p.subject_alt_names = vec![dns("a.acme.test"), dns("b.acme.test")],
            "a.acme.test",
        ),
        (|p| p.subject_alt_names = vec![], "CN=orders"),
        (
            |p| {
                p.distinguished_name = DistinguishedName::new();
                p.subject_alt_names = vec![SanType::IpAddress("10.0.0.1".parse().unwrap())];
            },
            "ip:10.0.0.1",
        ),
        (
            |p| {
                p.distinguished_name = DistinguishedName::new();
                p.subject_alt_names = vec![SanType::Rfc822Name("a@acme.test".try_into().unwrap())];
            },
            "email:a@acme.test",
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(
            read(Role::Client, &certificate(change))
                .unwrap()
                .to_string(),
            expected
        );
    }
}

#[test]
fn a_leaf_that_cannot_be_an_identity_is_refused_for_its_one_fault() {
    let rows: [(&str, Change, &str); 29] = [
        (
            "a CA",
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "LEAF_IS_CA",
        ),
        (
            "may sign certificates",
            |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign),
            "LEAF_IS_CA",
        ),
        (
            "may sign CRLs",
            |p| p.key_usages.push(KeyUsagePurpose::CrlSign),
            "LEAF_IS_CA",
        ),
        (
            "only encrypts",
            |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            "WRONG_PURPOSE",
        ),
        (
            "no extended key usage",
            |p| p.extended_key_usages.clear(),
            "WRONG_PURPOSE",
        ),
        (
            "any purpose is none",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
            "WRONG_PURPOSE",
        ),
        (
            "a server's",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            "WRONG_PURPOSE",
        ),
        (
            "two SPIFFE IDs",
            |p| p.subject_alt_names.push(uri("spiffe://acme.test/other")),
            "SPIFFE_ID_AMBIGUOUS",
        ),
        (
            "the same SPIFFE ID twice",
            |p| p.subject_alt_names.push(uri("spiffe://acme.test/orders")),
            "SPIFFE_ID_AMBIGUOUS",
        ),
        (
            "two, one in capitals",
            |p| p.subject_alt_names.push(uri("SPIFFE://acme.test/x")),
            "SPIFFE_ID_AMBIGUOUS",
        ),
        (
            "a scheme in capitals",
            |p| p.subject_alt_names = vec![uri("Spiffe://acme.test/a")],
            "SPIFFE_ID_MALFORMED",
        ),
        (
            "an opaque ID",
            |p| p.subject_alt_names = vec![uri("spiffe:acme.test/a")],
            "SPIFFE_ID_MALFORMED",
        ),
        (
            "no workload",
            |p| p.subject_alt_names = vec![uri("spiffe://acme.test")],
            "SPIFFE_ID_MALFORMED",
        ),
        (
            "an empty segment",
            |p| p.subject_alt_names = vec![uri("spiffe://acme.test/ns//sa")],
            "SPIFFE_ID_MALFORMED",
        ),
        (
            "a query",
            |p| p.subject_alt_names = vec![uri("spiffe://acme.test/a?b")],
            "SPIFFE_ID_MALFORMED",
        ),
        (
            "a port",
            |p| p.subject_alt_names = vec![uri("spiffe://acme.test:1/a")],
            "SPIFFE_ID_MALFORMED",
        ),
        (
            "a NUL in a DNS name",
            |p| p.subject_alt_names = vec![dns("a\0.acme.test")],
            "NAME_MALFORMED",
        ),
        (
            "a newline in a URI",
            |p| p.subject_alt_names = vec![uri("https://a\nb")],
            "NAME_MALFORMED",
        ),
        (
            "a terminal escape in a URI",
            |p| p.subject_alt_names = vec![uri("https://\x1b[31m")],
            "NAME_MALFORMED",
        ),
        (
            "a space in a DNS name",
            |p| p.subject_alt_names = vec![dns("a b")],
            "NAME_MALFORMED",
        ),
        (
            "an empty DNS name",
            |p| p.subject_alt_names = vec![dns("")],
            "NAME_MALFORMED",
        ),
        (
            "a SPIFFE ID for a DNS name",
            |p| p.subject_alt_names = vec![dns("spiffe://acme.test/orders")],
            "NAME_MALFORMED",
        ),
        (
            "a subject for a DNS name",
            |p| p.subject_alt_names = vec![dns("CN=mainframe,O=Acme")],
            "NAME_MALFORMED",
        ),
        (
            "a DNS name for a URI",
            |p| p.subject_alt_names = vec![uri("billing.acme.test")],
            "NAME_MALFORMED",
        ),
        (
            "too many names",
            |p| p.subject_alt_names = vec![dns("a.test"); 129],
            "TOO_MANY_NAMES",
        ),
        (
            "no name at all",
            |p| {
                p.distinguished_name = DistinguishedName::new();
                p.subject_alt_names.clear();
            },
            "NAMELESS",
        ),
        (
            "a newline in the subject",
            |p| p.distinguished_name = name(&[(DnType::CommonName, "orders\nlevel=info")]),
            "NAME_MALFORMED",
        ),
        (
            "a DNS name that is not ASCII",
            |p| {
                p.subject_alt_names.clear();
                p.custom_extensions = vec![raw_san(0x82, "é.test".as_bytes())];
            },
            "NAME_MALFORMED",
        ),
        (
            "an address of five bytes",
            |p| {
                p.subject_alt_names.clear();
                p.custom_extensions = vec![raw_san(0x87, &[1, 2, 3, 4, 5])];
            },
            "NAME_MALFORMED",
        ),
    ];
    for (fault, change, code) in rows {
        let refused = read(Role::Client, &certificate(change)).expect_err(fault);
        assert_eq!(refused.code(), code, "{fault}: {refused}");
        assert!(
            !refused.to_string().contains(char::is_control),
            "{fault}: {refused:?}"
        );
    }
}

#[test]
fn a_role_needs_its_own_purpose() {
    let server = certificate(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(read(Role::Server, &server).is_ok());
    assert_eq!(
        read(Role::Client, &server),
        Err(InvalidPeer::WrongPurpose("clientAuth"))
    );
    assert_eq!(
        read(Role::Server, &certificate(|_| {})),
        Err(InvalidPeer::WrongPurpose("serverAuth"))
    );
}

#[test]
fn what_is_no_certificate_is_refused_by_its_place() {
    let leaf = certificate(|_| {});
    let empty: [&[u8]; 0] = [];
    assert_eq!(
        Peer::from_verified_path(Role::Client, &empty),
        Err(InvalidPeer::NoCertificate)
    );
    let cut = leaf.get(..leaf.len() - 1).unwrap();
    let longer = [&*leaf, &[0]].concat();
    for (path, position) in [(vec![cut], 0), (vec![&*leaf, b""], 1), (vec![&*longer], 0)] {
        match Peer::from_verified_path(Role::Client, &path) {
            Err(InvalidPeer::Unreadable { position: at, .. }) => assert_eq!(at, position),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_flipped_byte_makes_it_panic() {
    let leaf = certificate(|_| {});
    for position in 0..leaf.len() {
        for bits in [0x01, 0x20, 0x80, 0xff] {
            let mut broken = leaf.clone();
            if let Some(byte) = broken.get_mut(position) {
                *byte ^= bits;
            }
            // Any answer will do, but there must be one.
            drop(read(Role::Client, &broken));
        }
    }
}

#[test]
fn a_subject_reads_as_openssl_prints_it_by_rfc_2253() {
    // As `openssl x509 -noout -subject -nameopt RFC2253` prints the same names.
    let rows: [(&[(DnType, &str)], &str); 9] = [
        (
            &[
                (DnType::CountryName, "US"),
                (DnType::OrganizationName, "Acme"),
                (DnType::OrganizationalUnitName, "batch"),
                (DnType::CommonName, "mainframe"),
            ],
            "CN=mainframe,OU=batch,O=Acme,C=US",
        ),
        (&[(DnType::CommonName, "Example, Co.")], r"CN=Example\, Co."),
        (
            &[(DnType::CommonName, r#"a+b"c\d<e>f;g=h"#)],
            r#"CN=a\+b\"c\\d\<e\>f\;g=h"#,
        ),
        (&[(DnType::CommonName, "#hash # hash")], r"CN=\#hash # hash"),
        (&[(DnType::CommonName, " both ends ")], r"CN=\ both ends\ "),
        (&[(DnType::CommonName, "José")], r"CN=Jos\C3\A9"),
        (&[(DnType::CommonName, "")], "CN="),
        (
            &[(
                DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]),
                "test",
            )],
            "DC=test",
        ),
        (
            &[(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")],
            "1.2.3.4=#0C0178",
        ),
    ];
    for (attributes, expected) in rows {
        let der = certificate(|params| params.distinguished_name = name(attributes));
        assert_eq!(read(Role::Client, &der).unwrap().subject(), expected);
    }
}

#[test]
fn every_kind_of_string_is_read_as_what_it_is() {
    // A name of one RDN with one CN, whose value has the given tag and bytes.
    let common_name = |tag: u8, value: &[u8]| {
        let wrap = |tag: u8, content: &[u8]| {
            [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
        };
        let attribute = [&[0x06, 3, 0x55, 4, 3], &*wrap(tag, value)].concat();
        wrap(0x30, &wrap(0x31, &wrap(0x30, &attribute)))
    };
    let malformed = || Err(InvalidName::NotText("CN".to_owned()));
    for (kind, tag, value, expected) in [
        (
            "UTF8String",
            0x0c,
            "é".as_bytes(),
            Ok(r"CN=\C3\A9".to_owned()),
        ),
        ("UTF8String that is none", 0x0c, b"\xff", malformed()),
        ("PrintableString", 0x13, b"a", Ok("CN=a".to_owned())),
        (
            "PrintableString with the high bit",
            0x13,
            b"\xe9",
            malformed(),
        ),
        ("IA5String", 0x16, b"a@b", Ok("CN=a@b".to_owned())),
        (
            "T61String is Latin-1",
            0x14,
            b"\xe9",
            Ok(r"CN=\C3\A9".to_owned()),
        ),
        ("BMPString", 0x1e, b"\x00\xe9", Ok(r"CN=\C3\A9".to_owned())),
        (
            "BMPString of an odd length",
            0x1e,
            b"\x00\xe9\x00",
            malformed(),
        ),
        (
            "UniversalString",
            0x1c,
            b"\x00\x00\x00\xe9",
            Ok(r"CN=\C3\A9".to_owned()),
        ),
        (
            "OCTET STRING is no text",
            0x04,
            b"a",
            Ok("CN=#040161".to_owned()),
        ),
        (
            "a control character",
            0x0c,
            b"a\x00b",
            Err(InvalidName::ControlCharacter("CN".to_owned())),
        ),
    ] {
        assert_eq!(
            distinguished_name(&common_name(tag, value)),
            expected,
            "{kind}"
        );
    }
    assert_eq!(
        distinguished_name(b"\x30\x01"),
        Err(InvalidName::Unreadable)
    );
}

#[test]
fn a_spiffe_id_is_the_only_uri_on_either_side() {
    for other in ["https://acme.test/orders", "urn:acme:orders"] {
        for reversed in [false, true] {
            let der = certificate(|params| {
                let mut names = vec![uri("spiffe://acme.test/orders"), uri(other)];
                if reversed {
                    names.reverse();
                }
                params.subject_alt_names = names;
                params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::ServerAuth);
            });
            for role in [Role::Client, Role::Server] {
                let code = read(role, &der).map_err(|invalid| invalid.code());
                assert_eq!(code.err(), Some("SPIFFE_ID_AMBIGUOUS"), "{other} {role:?}");
            }
        }
    }
}

#[test]
fn a_name_of_one_kind_cannot_be_read_as_one_of_another() {
    let label = |length: usize| "a".repeat(length);
    let email = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
    let long_host = [label(63), label(63), label(63), label(63)].join(".");
    for (name, is_read) in [
        (email("ops+night@acme.test"), true),
        (email("spiffe://acme.test/orders"), false),
        (email("spiffe://acme.test/orders@acme.test"), false),
        (email("CN=ops@acme.test"), true),
        (email("CN=ops,O=Acme@acme.test"), false),
        (email("ops"), false),
        (email("@acme.test"), false),
        (email("ops@"), false),
        (email("a@b@acme.test"), false),
        (email("ops@*.acme.test"), false),
        (email("ops@acme..test"), false),
        (dns(&format!("{}.test", label(63))), true),
        (dns(&format!("{}.test", label(64))), false),
        (dns(&long_host), false),
        (dns("10.0.0.1"), true),
    ] {
        let der = certificate(|params| params.subject_alt_names = vec![name.clone()]);
        let code = read(Role::Client, &der).map_err(|invalid| invalid.code());
        let expected = (!is_read).then_some("NAME_MALFORMED");
        assert_eq!(code.err(), expected, "{name:?}");
    }
}
