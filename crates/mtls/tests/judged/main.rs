//! What a chain is worth under roots and revocation lists of the less usual kind. Each is minted here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encoded;
mod lists;
mod minted;
mod names;

use std::time::SystemTime;

use countersign_mtls::{Authorities, ExpiredCrls, PemFile};
use identity::Role;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use time::OffsetDateTime;

use crate::minted::{DAY, authority, intermediate, issued, leaf, list, root, verdict};

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
    let (upper_der, upper) = intermediate(upper, &root);
    let mut lower = authority("lower", 10 * DAY);
    lower.serial_number = Some(SerialNumber::from(3));
    let (lower_der, lower) = intermediate(lower, &upper);
    let chain = [issued(&leaf(7, &[]), &lower), lower_der, upper_der];
    let revoked = "the certificate is revoked";
    let unknown = "the revocation status is unknown: no list of its issuer is about it";
    let part = Some("http://crl.acme.test/a.crl");
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
        (
            "the leaf, with a list of a part",
            &root_pem,
            list(&lower, &[], part),
            unknown.to_owned(),
        ),
        (
            "its issuer, with a list of a part",
            &root_pem,
            list(&upper, &[], part),
            format!("certificate 2 (CN=lower): {unknown}"),
        ),
        (
            "the issuer of that, with a list of a part",
            &root_pem,
            list(&root, &[], part),
            format!("certificate 3 (CN=upper): {unknown}"),
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
    let chain = [issued(&leaf(7, &[]), &issuer)];
    assert_eq!(verdict(&old, &[], &chain), "CERTIFICATE_EXPIRED");
    for both in [[&*old, &new].concat(), [&*new, &old].concat()] {
        assert_eq!(verdict(&both, &[], &chain), "accepted");
    }
}

#[test]
fn namesakes_that_multiply_the_paths_are_refused_before_they_are_tried() {
    let (root_pem, issuer) = root("root");
    let leaf = issued(&leaf(7, &[]), &issuer);
    let namesake = || {
        let namesake = authority("root", DAY).self_signed(&KeyPair::generate().unwrap());
        namesake.unwrap().der().clone()
    };
    let chain = |namesakes: usize| {
        let mut chain = vec![leaf.clone()];
        chain.extend(std::iter::repeat_with(namesake).take(namesakes));
        chain
    };
    assert_eq!(verdict(&root_pem, &[], &chain(2)), "accepted");
    assert_eq!(verdict(&root_pem, &[], &chain(3)), "CHAIN_TOO_LONG");
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
        let (root_pem, root) = root("root");
        let mut params = authority("issuing", 10 * DAY);
        params.key_usages = usages.clone();
        let (intermediate, issuer) = intermediate(params, &root);
        let chain = [issued(&leaf(7, &[]), &issuer), intermediate];
        assert_eq!(verdict(&root_pem, &[], &chain), expected, "{usages:?}");
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
    let chain = [issued(&leaf(7, &[]), &issuer)];
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

/// A validity may begin in 1950 (RFC 5280 §4.1.2.5.1); many devices and test authorities take the first second there is.
#[test]
fn a_validity_may_begin_before_1970_and_not_end_there() {
    let year = |year: i32| OffsetDateTime::now_utc().replace_year(year).unwrap();
    for (from, to, expected) in [
        (1950, 2049, "accepted"),
        (1960, 2049, "accepted"),
        (1969, 2049, "accepted"),
        (1970, 2049, "accepted"),
        (1972, 2049, "accepted"),
        (1950, 2001, "CERTIFICATE_EXPIRED"),
        (1950, 1971, "CERTIFICATE_MALFORMED"),
        (1950, 1969, "CERTIFICATE_MALFORMED"),
        (1950, 1950, "CERTIFICATE_MALFORMED"),
        (2049, 2049, "CERTIFICATE_NOT_YET_VALID"),
    ] {
        let dated = |mut params: CertificateParams| {
            params.not_before = year(from);
            params.not_after = year(to);
            params
        };
        let (root_pem, root) = root("root");
        let (authority, issuer) = intermediate(authority("issuing", DAY), &root);
        let (old, by_old) = intermediate(dated(minted::authority("old", DAY)), &root);
        for (what, chain) in [
            ("leaf", [issued(&dated(leaf(7, &[])), &issuer), authority]),
            ("authority", [issued(&leaf(7, &[]), &by_old), old]),
        ] {
            let said = verdict(&root_pem, &[], &chain);
            assert_eq!(said, expected, "the {what} from {from} to {to}");
        }
    }
}

/// RFC 5280 §6.1 takes the name and the key of a root, and leaves the rest of it to the verifier: a documented difference.
#[test]
fn the_pathlen_of_an_intermediate_counts_and_that_of_a_root_does_not() {
    let any = IsCa::Ca(BasicConstraints::Unconstrained);
    let at_most = |below| IsCa::Ca(BasicConstraints::Constrained(below));
    for (root_is, below, expected) in [
        (at_most(0), &[][..], "accepted"),
        (at_most(0), &[any][..], "accepted"),
        (at_most(0), &[any, any], "accepted"),
        (at_most(1), &[any, any], "accepted"),
        (at_most(0), &[at_most(1), at_most(0)], "accepted"),
        (any, &[at_most(0)], "accepted"),
        (any, &[any, at_most(0)], "accepted"),
        (any, &[at_most(2), any, any], "accepted"),
        (any, &[at_most(0), any], "CERTIFICATE_MALFORMED"),
        (any, &[at_most(0), at_most(0)], "CERTIFICATE_MALFORMED"),
        (any, &[at_most(1), any, any], "CERTIFICATE_MALFORMED"),
        (at_most(9), &[any, at_most(0), any], "CERTIFICATE_MALFORMED"),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut root = authority("root", 10 * DAY);
        root.is_ca = root_is;
        let root_pem = root.self_signed(&key).unwrap().pem();
        let (mut chain, mut issuer) = (Vec::new(), Issuer::new(root, key));
        for (place, is) in below.iter().enumerate() {
            let mut params = authority(&format!("authority {place}"), 5 * DAY);
            params.is_ca = *is;
            let (der, next) = intermediate(params, &issuer);
            chain.insert(0, der);
            issuer = next;
        }
        chain.insert(0, issued(&leaf(7, &[]), &issuer));
        let said = verdict(&root_pem, &[], &chain);
        assert_eq!(said, expected, "{root_is:?}, {below:?}");
    }
}
