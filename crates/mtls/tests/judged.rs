//! What a chain is worth under roots and revocation lists of the less usual kind. Each is minted here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use countersign_mtls::{Authorities, ExpiredCrls, PemFile, Snapshot};
use identity::Role;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    RevokedCertParams, SanType, SerialNumber, SigningKey,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn authority(name: &str, lasts: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - DAY;
    params.not_after = OffsetDateTime::now_utc() + lasts;
    params
}

fn leaf(serial: u64, points: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial));
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://acme.test/orders".try_into().unwrap(),
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::now_utc() - DAY;
    params.not_after = OffsetDateTime::now_utc() + 10 * DAY;
    params.crl_distribution_points = points
        .iter()
        .map(|uri| CrlDistributionPoint {
            uris: vec![(*uri).to_owned()],
        })
        .collect();
    params
}

fn list(issuer: &Issuer<'_, impl SigningKey>, revoked: &[u64], point: Option<&str>) -> PemFile {
    PemFile::new("crl.pem", pem_list(issuer, revoked, point).into_bytes())
}

fn pem_list(issuer: &Issuer<'_, impl SigningKey>, revoked: &[u64], point: Option<&str>) -> String {
    let now = OffsetDateTime::now_utc();
    let params = CertificateRevocationListParams {
        this_update: now - DAY,
        next_update: now + DAY,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: point.map(|uri| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec![uri.to_owned()],
            },
            scope: None,
        }),
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: now - DAY,
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

fn verdict(roots: &str, lists: &[PemFile], chain: &[CertificateDer<'_>]) -> &'static str {
    let roots = PemFile::new("ca.crt", roots.as_bytes().to_vec());
    let authorities =
        Authorities::of_files(&[roots], lists, chain, ExpiredCrls::default()).unwrap();
    match authorities.judge(Role::Client, chain, SystemTime::now()) {
        Ok(_) => "accepted",
        Err(refusal) => refusal.code(),
    }
}

#[test]
fn a_refusal_names_the_authority_that_it_is_about() {
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 10 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let other = root
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem();
    let root = Issuer::new(root, key);
    let mut upper = authority("upper", 10 * DAY);
    upper.serial_number = Some(SerialNumber::from(2));
    let key = KeyPair::generate().unwrap();
    let upper_der = upper.signed_by(&key, &root).unwrap().der().clone();
    let upper = Issuer::new(upper, key);
    let mut lower = authority("lower", 10 * DAY);
    lower.serial_number = Some(SerialNumber::from(3));
    let key = KeyPair::generate().unwrap();
    let lower_der = lower.signed_by(&key, &upper).unwrap().der().clone();
    let lower = Issuer::new(lower, key);
    let leaf = leaf(7, &[])
        .signed_by(&KeyPair::generate().unwrap(), &lower)
        .unwrap();
    let chain = [leaf.der().clone(), lower_der, upper_der];
    let revoked = "the certificate is revoked";
    for (what, roots, lists, expected) in [
        (
            "the leaf",
            &root_pem,
            list(&lower, &[7], None),
            revoked.to_owned(),
        ),
        (
            "its issuer",
            &root_pem,
            list(&upper, &[3], None),
            format!("certificate 2 (CN=lower): {revoked}"),
        ),
        (
            "the issuer of that",
            &root_pem,
            list(&root, &[2], None),
            format!("certificate 3 (CN=upper): {revoked}"),
        ),
        (
            "a namesake of the root",
            &other,
            list(&lower, &[], None),
            "certificate 3 (CN=upper): a signature in the chain does not verify".to_owned(),
        ),
    ] {
        let roots = PemFile::new("ca.crt", roots.as_bytes().to_vec());
        let authorities =
            Authorities::of_files(&[roots], &[lists], &chain, ExpiredCrls::default()).unwrap();
        let judged = authorities.judge(Role::Client, &chain, SystemTime::now());
        assert_eq!(judged.unwrap_err().to_string(), expected, "{what}");
    }
}

#[test]
fn a_list_for_a_part_of_the_certificates_revokes_what_it_names_and_vouches_for_its_part_alone() {
    const HERE: &str = "http://crl.acme.test/here";
    const ELSEWHERE: &str = "http://crl.acme.test/elsewhere";
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 10 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(root, key);
    let leaf_key = KeyPair::generate().unwrap();
    for (points, expected) in [
        ([HERE], ["accepted", "CERTIFICATE_REVOKED"]),
        ([ELSEWHERE], ["REVOCATION_UNKNOWN", "CERTIFICATE_REVOKED"]),
    ] {
        for (revoked, expected) in [&[][..], &[7]].iter().zip(expected) {
            let leaf = leaf(7, &points).signed_by(&leaf_key, &issuer).unwrap();
            let partial = list(&issuer, revoked, Some(HERE));
            let verdict = verdict(&root_pem, &[partial], &[leaf.der().clone()]);
            assert_eq!(verdict, expected, "{points:?} {revoked:?}");
        }
    }
}

#[test]
fn a_root_that_was_renewed_with_its_key_stands_for_the_old_one() {
    let key = KeyPair::generate().unwrap();
    let mut old = authority("root", 10 * DAY);
    old.not_before = OffsetDateTime::now_utc() - 2 * DAY;
    old.not_after = OffsetDateTime::now_utc() - DAY;
    let new = authority("root", 10 * DAY);
    let (old, new) = (
        old.self_signed(&key).unwrap().pem(),
        new.self_signed(&key).unwrap().pem(),
    );
    let issuer = Issuer::new(authority("root", DAY), key);
    let leaf = leaf(7, &[])
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    let chain = [leaf.der().clone()];
    assert_eq!(verdict(&old, &[], &chain), "CERTIFICATE_EXPIRED");
    for both in [[&*old, &new].concat(), [&*new, &old].concat()] {
        assert_eq!(verdict(&both, &[], &chain), "accepted");
    }
}

#[test]
fn namesakes_that_multiply_the_paths_are_refused_before_they_are_tried() {
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 10 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(root, key);
    let leaf = leaf(7, &[])
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    let namesake = || {
        let key = KeyPair::generate().unwrap();
        authority("root", DAY)
            .self_signed(&key)
            .unwrap()
            .der()
            .clone()
    };
    let chain = |namesakes: usize| {
        let mut chain = vec![leaf.der().clone()];
        chain.extend(std::iter::repeat_with(namesake).take(namesakes));
        chain
    };
    assert_eq!(verdict(&root_pem, &[], &chain(2)), "accepted");
    assert_eq!(verdict(&root_pem, &[], &chain(3)), "CHAIN_TOO_LONG");
}

#[test]
fn a_root_whose_key_usage_lacks_crl_sign_signs_no_list() {
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 10 * DAY);
    for (usages, expected) in [
        (vec![], None),
        (root.key_usages.clone(), None),
        (vec![KeyUsagePurpose::KeyCertSign], Some("CRL_SIGNER_UNFIT")),
    ] {
        let mut certified = root.clone();
        certified.key_usages = usages.clone();
        let root_pem = certified.self_signed(&key).unwrap().pem();
        let signer = Issuer::from_params(&root, &key);
        let read = Authorities::of_files(
            &[PemFile::new("ca.crt", root_pem.into_bytes())],
            &[list(&signer, &[], None)],
            &[],
            ExpiredCrls::default(),
        );
        let refused = read.err().map(|invalid| invalid.code());
        assert_eq!(refused, expected, "{usages:?}");
    }
}

#[test]
fn an_intermediate_whose_key_usage_lacks_key_cert_sign_is_refused() {
    for (usages, expected) in [
        (vec![KeyUsagePurpose::KeyCertSign], "accepted"),
        (vec![], "accepted"),
        (
            vec![KeyUsagePurpose::DigitalSignature],
            "CERTIFICATE_MALFORMED",
        ),
        (vec![KeyUsagePurpose::CrlSign], "CERTIFICATE_MALFORMED"),
    ] {
        let key = KeyPair::generate().unwrap();
        let root = authority("root", 10 * DAY);
        let root_pem = root.self_signed(&key).unwrap().pem();
        let root = Issuer::new(root, key);
        let mut params = authority("issuing", 10 * DAY);
        params.key_usages = usages.clone();
        let key = KeyPair::generate().unwrap();
        let intermediate = params.signed_by(&key, &root).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = leaf(7, &[])
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let chain = [leaf.der().clone(), intermediate.der().clone()];
        assert_eq!(verdict(&root_pem, &[], &chain), expected, "{usages:?}");
    }
}

#[test]
fn a_list_revokes_however_it_spells_the_name_of_its_issuer() {
    let key = KeyPair::generate().unwrap();
    let root = authority("Acme Root", 10 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(root, key);
    let leaf = leaf(7, &[])
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    let chain = [leaf.der().clone()];
    let key = issuer.key().serialize_der();
    for (name, expected) in [
        (
            DnValue::Utf8String("Acme Root".to_owned()),
            "CERTIFICATE_REVOKED",
        ),
        (
            DnValue::PrintableString("Acme Root".try_into().unwrap()),
            "CERTIFICATE_REVOKED",
        ),
        (
            DnValue::PrintableString("ACME  ROOT".try_into().unwrap()),
            "CERTIFICATE_REVOKED",
        ),
        (
            DnValue::BmpString("Acme Root".try_into().unwrap()),
            "CERTIFICATE_REVOKED",
        ),
        (
            DnValue::PrintableString("Acme Roots".try_into().unwrap()),
            "accepted",
        ),
    ] {
        let mut params = authority("", DAY);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, name.clone());
        let signer = Issuer::new(params, KeyPair::try_from(key.as_slice()).unwrap());
        let list = list(&signer, &[7], None);
        assert_eq!(verdict(&root_pem, &[list], &chain), expected, "{name:?}");
    }
}

/// A distinguished name of UTF8Strings.
fn directory_name(names: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in names {
        name.push(kind.clone(), *value);
    }
    name
}

fn constraints(permitted: &[GeneralSubtree], excluded: &[GeneralSubtree]) -> NameConstraints {
    NameConstraints {
        permitted_subtrees: permitted.to_vec(),
        excluded_subtrees: excluded.to_vec(),
    }
}

/// What a chain is worth whose root or intermediate is under `constraints`, with a leaf of this subject and name.
fn verdict_under(
    constraints: &NameConstraints,
    subject: &DistinguishedName,
    uri: bool,
) -> [String; 2] {
    let mut leaf = leaf(7, &[]);
    leaf.distinguished_name = subject.clone();
    if !uri {
        leaf.subject_alt_names.clear();
    }
    [true, false].map(|is_root| {
        let key = KeyPair::generate().unwrap();
        let mut root = authority("root", 10 * DAY);
        root.name_constraints = is_root.then(|| constraints.clone());
        let root_pem = root.self_signed(&key).unwrap().pem();
        let root = Issuer::new(root, key);
        let mut params = authority("issuing", 10 * DAY);
        if is_root {
            params.distinguished_name = subject.clone();
        }
        params.name_constraints = (!is_root).then(|| constraints.clone());
        let key = KeyPair::generate().unwrap();
        let intermediate = params.signed_by(&key, &root).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = leaf
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let chain = [leaf.der().clone(), intermediate.der().clone()];
        verdict(&root_pem, &[], &chain).to_owned()
    })
}

#[test]
fn directory_names_are_held_against_the_name_constraints_of_a_root_and_of_an_intermediate() {
    use DnType::{CommonName, CountryName, OrganizationName, OrganizationalUnitName};
    const INSIDE: &str = "accepted";
    const OUTSIDE: &str = "CERTIFICATE_MALFORMED";
    let dn = |names: &[(DnType, &str)]| GeneralSubtree::DirectoryName(directory_name(names));
    let us = || dn(&[(CountryName, "US")]);
    let acme = || dn(&[(CountryName, "US"), (OrganizationName, "Acme")]);
    let batch = || {
        dn(&[
            (CountryName, "US"),
            (OrganizationName, "Acme"),
            (OrganizationalUnitName, "batch"),
        ])
    };
    let mainframe = [
        (CountryName, "US"),
        (OrganizationName, "Acme"),
        (OrganizationalUnitName, "batch"),
        (CommonName, "mainframe"),
    ];
    let mut printable = directory_name(&mainframe[..1]);
    printable.push(
        OrganizationName,
        DnValue::PrintableString("ACME".try_into().unwrap()),
    );
    printable.push(CommonName, "mainframe");
    let mut of_another_type = directory_name(&mainframe[..2]);
    of_another_type.push(
        DnType::CustomDnType(vec![2, 5, 4, 65]),
        DnValue::BmpString("x".try_into().unwrap()),
    );
    let mainframe = directory_name(&mainframe);
    let other = directory_name(&[(CountryName, "US"), (OrganizationName, "Acme Two")]);
    let shorter = directory_name(&[(CountryName, "US")]);
    let turned = directory_name(&[(OrganizationName, "Acme"), (CountryName, "US")]);
    let deeper = directory_name(&[
        (CommonName, "x"),
        (CountryName, "US"),
        (OrganizationName, "Acme"),
    ]);
    for (what, permitted, excluded, subject, expected) in [
        ("inside", vec![acme()], vec![], &mainframe, INSIDE),
        ("the name itself", vec![us()], vec![], &shorter, INSIDE),
        (
            "in another string type and case",
            vec![acme()],
            vec![],
            &printable,
            INSIDE,
        ),
        ("in one of two", vec![batch(), us()], vec![], &other, INSIDE),
        ("everything", vec![dn(&[])], vec![], &other, INSIDE),
        ("in none", vec![acme(), batch()], vec![], &other, OUTSIDE),
        (
            "shorter than the subtree",
            vec![acme()],
            vec![],
            &shorter,
            OUTSIDE,
        ),
        ("in another order", vec![acme()], vec![], &turned, OUTSIDE),
        ("at another depth", vec![acme()], vec![], &deeper, OUTSIDE),
        ("excluded", vec![], vec![batch()], &mainframe, OUTSIDE),
        (
            "excluded, in another string type and case",
            vec![],
            vec![acme()],
            &printable,
            OUTSIDE,
        ),
        (
            "beside what is excluded",
            vec![],
            vec![batch()],
            &other,
            INSIDE,
        ),
        (
            "permitted and excluded",
            vec![acme()],
            vec![batch()],
            &mainframe,
            OUTSIDE,
        ),
        ("all excluded", vec![], vec![dn(&[])], &other, OUTSIDE),
        (
            "in none of two, one of them excluded",
            vec![acme()],
            vec![us()],
            &mainframe,
            OUTSIDE,
        ),
        (
            "a text of another type beside what is excluded",
            vec![],
            vec![batch()],
            &of_another_type,
            INSIDE,
        ),
    ] {
        for uri in [true, false] {
            let found = verdict_under(&constraints(&permitted, &excluded), subject, uri);
            assert_eq!(found, [expected; 2], "{what}, with a URI: {uri}");
        }
    }
    // No subject is no name of that form; an alternative name of another form is judged as before.
    let dns = || GeneralSubtree::DnsName("acme.test".to_owned());
    let mail = || GeneralSubtree::Rfc822Name("acme.test".to_owned());
    let mut with_mail = mainframe.clone();
    with_mail.push(
        DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]),
        DnValue::Ia5String("ops@acme.test".try_into().unwrap()),
    );
    for (what, permitted, subject, expected) in [
        (
            "a URI beside DNS names",
            vec![acme(), dns()],
            &mainframe,
            INSIDE,
        ),
        ("no mail address", vec![mail()], &mainframe, INSIDE),
        (
            "a mail address in the subject",
            vec![mail()],
            &with_mail,
            OUTSIDE,
        ),
        (
            "one that is permitted as a name",
            vec![acme(), mail()],
            &with_mail,
            OUTSIDE,
        ),
        (
            "a mail address, and constraints of another form",
            vec![acme()],
            &with_mail,
            INSIDE,
        ),
    ] {
        let found = verdict_under(&constraints(&permitted, &[]), subject, true);
        assert_eq!(found, [expected; 2], "{what}");
    }
}

/// The authority under constraints as webpki is shown it could be presented as well, by whoever has its key.
#[test]
fn an_authority_that_is_presented_as_webpki_is_shown_it_is_under_its_constraints_all_the_same() {
    let root_key = KeyPair::generate().unwrap();
    let root = authority("root", 10 * DAY);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let mut params = authority("issuing", 10 * DAY);
    let acme = directory_name(&[(DnType::OrganizationName, "Acme")]);
    params.name_constraints = Some(constraints(&[GeneralSubtree::DirectoryName(acme)], &[]));
    let key = KeyPair::generate().unwrap();
    let authority = params.signed_by(&key, &root).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let signed = |organization: &str| {
        let mut leaf = leaf(7, &[]);
        leaf.distinguished_name = directory_name(&[(DnType::OrganizationName, organization)]);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer);
        leaf.unwrap().der().clone()
    };
    let constraints = authority.windows(3).position(|it| it == [0x55, 0x1d, 0x1e]);
    let mut forged = authority.to_vec();
    let tag = forged[constraints.unwrap()..]
        .iter_mut()
        .find(|it| **it == 0xa4);
    *tag.unwrap() = 0xa5;
    let forged = CertificateDer::from(forged);
    // ECDSA has two signatures for each, and one follows from the other, so that neither the bytes of a certificate nor
    // its fingerprint say which one it is.
    let twin = other_signature(&forged);
    let (inside, outside) = (signed("Acme"), signed("Mallory"));
    for authorities in [
        vec![&authority],
        vec![&authority, &forged],
        vec![&forged, &authority],
        vec![&authority, &twin],
        vec![&twin, &authority],
    ] {
        let chain = |leaf: &CertificateDer<'static>| -> Vec<_> {
            std::iter::once(leaf)
                .chain(authorities.iter().copied())
                .cloned()
                .collect()
        };
        assert_eq!(verdict(&root_pem, &[], &chain(&inside)), "accepted");
        assert_eq!(
            verdict(&root_pem, &[], &chain(&outside)),
            "CERTIFICATE_MALFORMED"
        );
    }
    for alone in [forged, twin] {
        assert_eq!(
            verdict(&root_pem, &[], &[inside.clone(), alone]),
            "BAD_SIGNATURE"
        );
    }
}

/// The certificate with the other ECDSA signature on P-256 of the same bytes: (r, n - s).
fn other_signature(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let signature = parsed.signature_value.data.as_ref();
    let r = &signature[4..][..usize::from(signature[3])];
    let s = &signature[6 + r.len()..];
    let mut rest = [0; 32];
    let s = &s[s.len().saturating_sub(32)..];
    rest[32 - s.len()..].copy_from_slice(s);
    let (mut other, mut borrow) = (vec![0; 33], 0_i16);
    for place in (0..32).rev() {
        let digit = i16::from(ORDER[place]) - i16::from(rest[place]) - borrow;
        borrow = i16::from(digit < 0);
        other[place + 1] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    while other[0] == 0 && other[1] < 0x80 {
        other.remove(0);
    }
    let signature = tlv(0x30, &[tlv(2, r), tlv(2, &other)].concat());
    certificate_of(parsed.tbs_certificate.as_ref(), &signature)
}

/// An element of DER.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    match u8::try_from(length).unwrap_or(u8::MAX) {
        short @ ..0x80 => [&[tag, short], content].concat(),
        _ => {
            let length = u16::try_from(length).unwrap().to_be_bytes();
            [&[tag, 0x82, length[0], length[1]], content].concat()
        }
    }
}

/// What is signed, with a signature of it by ECDSA with SHA-256.
fn certificate_of(signed: &[u8], signature: &[u8]) -> CertificateDer<'static> {
    let algorithm = tlv(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    let signature = tlv(3, &[&[0], signature].concat());
    CertificateDer::from(tlv(0x30, &[signed, &algorithm, &signature].concat()))
}

/// The certificate with another subject, signed anew by its issuer.
fn with_subject(
    certificate: &CertificateDer<'_>,
    subject: &[u8],
    issuer: &KeyPair,
) -> CertificateDer<'static> {
    const SUBJECT: usize = 5;
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let (_, signed) = Any::from_der(parsed.tbs_certificate.as_ref()).unwrap();
    let (mut parts, mut left) = (Vec::new(), signed.data);
    while !left.is_empty() {
        let (rest, _) = Any::from_der(left).unwrap();
        parts.push(left[..left.len() - rest.len()].to_vec());
        left = rest;
    }
    parts[SUBJECT] = subject.to_vec();
    let signed = tlv(0x30, &parts.concat());
    certificate_of(&signed, &issuer.sign(&signed).unwrap())
}

#[test]
fn a_name_that_parsers_read_in_part_only_is_refused() {
    let root_key = KeyPair::generate().unwrap();
    let root_params = authority("root", 10 * DAY);
    let root_pem = root_params.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root_params, root_key);
    let acme = directory_name(&[(DnType::OrganizationName, "Acme")]);
    let under = GeneralSubtree::DirectoryName(acme);
    // O, as it is in a certificate.
    let attribute = |value: &[u8]| tlv(0x30, &[&[6, 3, 0x55, 4, 10][..], &tlv(12, value)].concat());
    let relative = |attributes: &[Vec<u8>]| tlv(0x31, &attributes.concat());
    let (inside, outside) = (attribute(b"Acme"), attribute(b"Mallory"));
    let [acme, mallory] = [&inside, &outside].map(|one| relative(std::slice::from_ref(one)));
    let (empty, null) = (tlv(0x31, &[]), vec![5, 0]);
    for (what, parts, constrained, free) in [
        ("a name", vec![acme.clone()], "accepted", "accepted"),
        (
            "a name outside",
            vec![mallory.clone()],
            "CERTIFICATE_MALFORMED",
            "accepted",
        ),
    ]
    .into_iter()
    .chain(
        [
            ("an empty set", vec![empty.clone(), mallory.clone()]),
            (
                "an empty set within",
                vec![acme.clone(), empty, mallory.clone()],
            ),
            ("no set", vec![null.clone(), mallory]),
            ("no set at the end", vec![acme, null]),
            ("a sequence for a set", vec![tlv(0x30, &outside)]),
            (
                "an empty sequence",
                vec![relative(&[tlv(0x30, &[]), outside.clone()])],
            ),
            (
                "an empty sequence within",
                vec![relative(&[inside, tlv(0x30, &[]), outside])],
            ),
            (
                "a type and two values",
                vec![relative(&[tlv(
                    0x30,
                    &[&[6, 3, 0x55, 4, 10][..], &tlv(12, b"Acme"), &tlv(12, b"b")].concat(),
                )])],
            ),
        ]
        .map(|(what, parts)| {
            (
                what,
                parts,
                "CERTIFICATE_MALFORMED",
                "CERTIFICATE_MALFORMED",
            )
        }),
    ) {
        for (is_constrained, expected) in [(true, constrained), (false, free)] {
            let mut params = authority("issuing", 10 * DAY);
            let under = std::slice::from_ref(&under);
            params.name_constraints = is_constrained.then(|| constraints(under, &[]));
            let key = KeyPair::generate().unwrap();
            let intermediate = params.signed_by(&key, &root).unwrap();
            let issuer = Issuer::new(params, &key);
            let leaf = leaf(7, &[]).signed_by(&KeyPair::generate().unwrap(), &issuer);
            let leaf = leaf.unwrap();
            let leaf = with_subject(leaf.der(), &tlv(0x30, &parts.concat()), &key);
            let chain = [leaf, intermediate.der().clone()];
            let judged = verdict(&root_pem, &[], &chain);
            assert_eq!(judged, expected, "{what}, constrained: {is_constrained}");
        }
    }
}

#[test]
fn a_revoked_authority_is_called_that_whatever_is_unknown_below_it() {
    const HERE: Option<&str> = Some("http://crl.acme.test/here");
    let root_key = KeyPair::generate().unwrap();
    let root = authority("Acme Root", 10 * DAY);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let der = root_key.serialize_der();
    let root = Issuer::new(root, root_key);
    let mut respelt = authority("", DAY);
    let name = DnValue::PrintableString("ACME root".try_into().unwrap());
    respelt.distinguished_name = DistinguishedName::new();
    respelt.distinguished_name.push(DnType::CommonName, name);
    let respelt = Issuer::new(respelt, KeyPair::try_from(der.as_slice()).unwrap());
    let signed = |mut params: CertificateParams, serial: u64, by: &Issuer<'_, KeyPair>| {
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        (
            params.signed_by(&key, by).unwrap(),
            Issuer::new(params, key),
        )
    };
    let (upper_cert, upper) = signed(authority("upper", 5 * DAY), 2, &root);
    let (lower_cert, lower) = signed(authority("lower", 5 * DAY), 3, &upper);
    let mut params = leaf(7, &[]);
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    params.extended_key_usages.push(server);
    let (leaf_cert, own) = signed(params, 7, &lower);
    let chain = [&leaf_cert, &lower_cert, &upper_cert];
    let chain_pem: String = chain.iter().map(|cert| cert.pem()).collect();
    let chain = chain.map(|cert| cert.der().clone());
    let file = |name: &str, text: &str| PemFile::new(name, text.as_bytes().to_vec());
    for (of_root, revoked) in [
        (pem_list(&root, &[2], None), true),
        (pem_list(&root, &[2], HERE), true),
        (pem_list(&respelt, &[2], None), true),
        (pem_list(&respelt, &[2], HERE), true),
        (pem_list(&root, &[], None), false),
    ] {
        for (below, unknown) in [("upper", &upper), ("lower", &lower)] {
            let partial = pem_list(unknown, &[], HERE);
            let lists = [&of_root, &partial].map(|list| file("crl.pem", list));
            let said = verdict(&root_pem, &lists, &chain);
            let expected = ["REVOCATION_UNKNOWN", "CERTIFICATE_REVOKED"][usize::from(revoked)];
            assert_eq!(said, expected, "{below}, {of_root}");
            // Of ourselves too: what is unknown is no reason to doubt us, and what is revoked is.
            let own = Snapshot::of_files(
                Role::Server,
                file("tls.crt", &chain_pem),
                file("tls.key", &own.key().serialize_pem()),
                file("ca.crt", &root_pem),
                Some(file("crl.pem", &format!("{of_root}{partial}"))),
                ExpiredCrls::default(),
            );
            let refused = own.err().map(|invalid| invalid.code());
            let expected = revoked.then_some("CERTIFICATE_REVOKED");
            assert_eq!(refused, expected, "{below}, {of_root}");
        }
    }
}

#[test]
fn a_list_of_one_distribution_point_says_nothing_about_a_leaf_that_names_none() {
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 10 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(root, key);
    let leaf = leaf(7, &[])
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    let chain = [leaf.der().clone()];
    for (revoked, expected) in [
        (&[][..], "REVOCATION_UNKNOWN"),
        (&[7], "CERTIFICATE_REVOKED"),
    ] {
        let partial = list(&issuer, revoked, Some("http://crl.acme.test/b.crl"));
        assert_eq!(verdict(&root_pem, &[partial], &chain), expected);
    }
}

#[test]
fn a_certificate_is_judged_afresh_though_its_signature_is_remembered() {
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 20 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let renamed = authority("renamed", 20 * DAY)
        .self_signed(&key)
        .unwrap()
        .pem();
    let key_of_another = KeyPair::generate().unwrap();
    let namesake = authority("root", 20 * DAY)
        .self_signed(&key_of_another)
        .unwrap()
        .pem();
    let other = authority("other", 20 * DAY)
        .self_signed(&key_of_another)
        .unwrap()
        .pem();
    let issuer = Issuer::new(root, key);
    let leaf = leaf(7, &[])
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    let chain = [leaf.der().clone()];
    let judged = |roots: &str, lists: &[PemFile], role, at| {
        let roots = PemFile::new("ca.crt", roots.as_bytes().to_vec());
        let authorities =
            Authorities::of_files(&[roots], lists, &chain, ExpiredCrls::Refuse).unwrap();
        match authorities.judge(role, &chain, at) {
            Ok(_) => "accepted",
            Err(refusal) => refusal.code(),
        }
    };
    let now = SystemTime::now();
    let client = Role::Client;
    let (of_others, of_it) = (list(&issuer, &[8], None), list(&issuer, &[7], None));
    let lists = [of_others];
    // Twice, so that the second time everything that can be remembered is.
    for _ in 0..2 {
        assert_eq!(judged(&root_pem, &[], client, now), "accepted");
        assert_eq!(judged(&root_pem, &lists, client, now), "accepted");
    }
    for (what, roots, lists, role, at, code) in [
        (
            "expired",
            &root_pem,
            &[][..],
            client,
            now + 11 * DAY,
            "CERTIFICATE_EXPIRED",
        ),
        (
            "not yet valid",
            &root_pem,
            &[],
            client,
            now - 3 * DAY,
            "CERTIFICATE_NOT_YET_VALID",
        ),
        (
            "revoked",
            &root_pem,
            &[of_it],
            client,
            now,
            "CERTIFICATE_REVOKED",
        ),
        (
            "a list past its end",
            &root_pem,
            &lists,
            client,
            now + 2 * DAY,
            "CRL_EXPIRED",
        ),
        (
            "the other role",
            &root_pem,
            &[],
            Role::Server,
            now,
            "WRONG_PURPOSE",
        ),
        ("another root", &other, &[], client, now, "UNKNOWN_ISSUER"),
        (
            "its root renamed",
            &renamed,
            &[],
            client,
            now,
            "UNKNOWN_ISSUER",
        ),
        (
            "another root of the name",
            &namesake,
            &[],
            client,
            now,
            "BAD_SIGNATURE",
        ),
    ] {
        assert_eq!(judged(roots, lists, role, at), code, "{what}");
    }
    assert_eq!(judged(&root_pem, &lists, client, now), "accepted");
}

#[test]
fn a_list_too_long_to_be_hashed_each_time_revokes_what_it_names_and_nothing_else() {
    let key = KeyPair::generate().unwrap();
    let root = authority("root", 20 * DAY);
    let root_pem = root.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(root, key);
    let leaf_of = |serial| {
        let key = KeyPair::generate().unwrap();
        [leaf(serial, &[])
            .signed_by(&key, &issuer)
            .unwrap()
            .der()
            .clone()]
    };
    let (good, revoked) = (leaf_of(90_000), leaf_of(12_345));
    let serials: Vec<u64> = (10_000..14_000).collect();
    let authorities = Authorities::of_files(
        &[PemFile::new("ca.crt", root_pem.into_bytes())],
        &[list(&issuer, &serials, None)],
        &[],
        ExpiredCrls::Refuse,
    )
    .unwrap();
    for _ in 0..3 {
        let now = SystemTime::now();
        assert!(authorities.judge(Role::Client, &good, now).is_ok());
        let refusal = authorities.judge(Role::Client, &revoked, now).unwrap_err();
        assert_eq!(refusal.code(), "CERTIFICATE_REVOKED");
        let later = authorities.judge(Role::Client, &good, now + 2 * DAY);
        assert_eq!(later.unwrap_err().code(), "CRL_EXPIRED");
    }
}
