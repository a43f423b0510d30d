//! What revocation lists say about a chain.

use std::time::SystemTime;

use countersign_mtls::{Authorities, ExpiredCrls, PemFile, Snapshot};
use identity::Role;
use rcgen::{
    CertificateParams, DnValue, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};

use crate::minted::{DAY, authority, issued, leaf, list, pem_list, respelt, root, verdict};

#[test]
fn a_list_for_a_part_of_the_certificates_revokes_what_it_names_and_vouches_for_its_part_alone() {
    const HERE: &str = "http://crl.acme.test/here";
    const ELSEWHERE: &str = "http://crl.acme.test/elsewhere";
    let (root_pem, issuer) = root("root");
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
fn a_list_revokes_however_it_spells_the_name_of_its_issuer() {
    let (root_pem, issuer) = root("Acme Root");
    let chain = [issued(&leaf(7, &[]), &issuer)];
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
        let list = list(&respelt(&issuer, name.clone()), &[7], None);
        assert_eq!(verdict(&root_pem, &[list], &chain), expected, "{name:?}");
    }
}

#[test]
fn a_revoked_authority_is_called_that_whatever_is_unknown_below_it() {
    const HERE: Option<&str> = Some("http://crl.acme.test/here");
    let (root_pem, root) = root("Acme Root");
    let name = DnValue::PrintableString("ACME root".try_into().unwrap());
    let respelt = respelt(&root, name);
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
    let (root_pem, issuer) = root("root");
    let chain = [issued(&leaf(7, &[]), &issuer)];
    for (revoked, expected) in [
        (&[][..], "REVOCATION_UNKNOWN"),
        (&[7], "CERTIFICATE_REVOKED"),
    ] {
        let partial = list(&issuer, revoked, Some("http://crl.acme.test/b.crl"));
        assert_eq!(verdict(&root_pem, &[partial], &chain), expected);
    }
}

#[test]
fn a_list_too_long_to_be_hashed_each_time_revokes_what_it_names_and_nothing_else() {
    let (root_pem, issuer) = root("root");
    let leaf_of = |serial| [issued(&leaf(serial, &[]), &issuer)];
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
