use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};

use super::*;
use crate::trust::faults::Faults;
use crate::trust::verify::left;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn file(name: &str, content: impl Into<Vec<u8>>) -> PemFile {
    PemFile::new(name, content.into())
}

fn root(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

#[test]
fn a_root_goes_when_two_reads_in_a_row_miss_it_and_comes_with_the_first_that_has_it() {
    let ((first, issuer), (second, _), (third, _)) = (root("a"), root("b"), root("c"));
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::URI("spiffe://acme.test/a".try_into().unwrap())];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
    let read = |roots: &[&str]| {
        Material::of_files(
            file("tls.crt", leaf.clone()),
            file("tls.key", key.serialize_pem()),
            file("ca.crt", roots.concat()),
            None,
        )
    };
    let roots = |snapshot: &Snapshot| snapshot.authorities.roots.len();
    let whole = read(&[&first, &second]);
    let now = SystemTime::now();
    let snapshot = Snapshot::first(Role::Server, whole, Rules::default(), now).unwrap();
    assert_eq!(roots(&snapshot), 2);

    // Cut between two certificates, like a file that is being written.
    let (taken, faults) = snapshot.next(read(&[&first]), false, now);
    assert!(taken.is_none() && faults.is_empty(), "{faults:?}");
    let (taken, _) = snapshot.next(read(&[&first]), true, now);
    assert_eq!(roots(&taken.unwrap()), 1);
    let (taken, _) = snapshot.next(read(&[&first, &second, &third]), false, now);
    assert_eq!(roots(&taken.unwrap()), 3);
}

#[test]
fn a_clock_that_is_put_back_and_right_again_says_the_same_with_and_without_a_reload() {
    let ((first, issuer), (second, _)) = (root("a"), root("b"));
    let now = SystemTime::now();
    let back = now - 2 * DAY;
    // A leaf that is valid since this many days.
    let leaf = |days: u32, usage: ExtendedKeyUsagePurpose| {
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI("spiffe://acme.test/a".try_into().unwrap())];
        leaf.extended_key_usages = vec![usage];
        leaf.not_before = (now - days * DAY).into();
        leaf.not_after = (now + DAY).into();
        let key = KeyPair::generate().unwrap();
        (leaf.signed_by(&key, &issuer).unwrap(), key)
    };
    let (own, key) = leaf(1, ExtendedKeyUsagePurpose::ServerAuth);
    let read = |roots: &[&str]| {
        Material::of_files(
            file("tls.crt", own.pem()),
            file("tls.key", key.serialize_pem()),
            file("ca.crt", roots.concat()),
            None,
        )
    };
    let in_order = read(&[&first]);
    let snapshot = Snapshot::first(Role::Server, in_order, Rules::default(), now).unwrap();

    let (reloaded, faults) = snapshot.next(read(&[&first, &second]), true, back);
    let reloaded = reloaded.unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let refusal = reloaded.own().unwrap_err().code();
    assert_eq!(
        refusal, "CERTIFICATE_NOT_YET_VALID",
        "so that it is not ready"
    );
    for (days, expected) in [(3, Ok(())), (1, Err("CERTIFICATE_NOT_YET_VALID"))] {
        let (peer, _) = leaf(days, ExtendedKeyUsagePurpose::ClientAuth);
        let chain = [peer.der().clone()];
        let accepted = snapshot.authorities().judge(Role::Client, &chain, now);
        let without = left(&accepted.unwrap(), back).map(drop);
        let with = reloaded.rejudge(Role::Client, &chain, back);
        for said in [without, with] {
            assert_eq!(said.map_err(|refusal| refusal.code()), expected, "{days}");
        }
        reloaded.forget_verdicts();
        let right_again = reloaded.rejudge(Role::Client, &chain, now);
        assert!(right_again.is_ok(), "{days}: {right_again:?}");
    }

    let (right, _) = reloaded.next(read(&[&first, &second]), true, now);
    assert!(right.unwrap().own().is_ok(), "so that it is ready again");
}

/// An authority that may issue certificates, under the name of the one in use.
fn issuing() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "issuing");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

#[test]
fn a_worse_chain_of_the_same_leaf_leaves_the_good_one_in_use() {
    type Change = fn(&mut CertificateParams);
    let (root_pem, root) = root("root");
    let (other_pem, other) = self::root("other");
    let (key, another_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let of = |change: Change, key: &KeyPair, by: &Issuer<'_, KeyPair>| {
        let mut params = issuing();
        change(&mut params);
        params.signed_by(key, by).unwrap().pem()
    };
    let good = of(|_| (), &key, &root);
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::URI("spiffe://acme.test/a".try_into().unwrap())];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(issuing(), &key));
    let leaf = leaf.unwrap().pem();
    let now = SystemTime::now();
    for (what, chain, refused) in [
        ("nothing", String::new(), Some("UNKNOWN_ISSUER")),
        (
            "the root alone",
            root_pem.clone(),
            Some("CHAIN_OUT_OF_ORDER"),
        ),
        (
            "another key of that name",
            of(|_| (), &another_key, &root),
            Some("BAD_SIGNATURE"),
        ),
        (
            "an authority of another root",
            of(|_| (), &key, &other),
            Some("UNKNOWN_ISSUER"),
        ),
        (
            "an authority of another root, with that root",
            of(|_| (), &key, &other) + &other_pem,
            Some("UNKNOWN_ISSUER"),
        ),
        (
            "an expired authority",
            of(
                |it| it.not_after = (SystemTime::now() - DAY).into(),
                &key,
                &root,
            ),
            Some("CERTIFICATE_EXPIRED"),
        ),
        (
            "an authority that is not valid yet",
            of(
                |it| it.not_before = (SystemTime::now() + DAY).into(),
                &key,
                &root,
            ),
            Some("CERTIFICATE_NOT_YET_VALID"),
        ),
        (
            "an authority that may not issue certificates",
            of(
                |it| it.key_usages = vec![KeyUsagePurpose::CrlSign],
                &key,
                &root,
            ),
            Some("CERTIFICATE_MALFORMED"),
        ),
        (
            "a certificate that is no authority",
            of(|it| it.is_ca = IsCa::ExplicitNoCa, &key, &root),
            Some("CERTIFICATE_MALFORMED"),
        ),
        (
            "an authority for another purpose",
            of(
                |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
                &key,
                &root,
            ),
            Some("WRONG_PURPOSE"),
        ),
        (
            "the authority twice",
            good.repeat(2),
            Some("CHAIN_OUT_OF_ORDER"),
        ),
        ("the authority and the root", good.clone() + &root_pem, None),
        (
            "an authority that lasts longer",
            of(
                |it| it.not_after = (SystemTime::now() + 9 * DAY).into(),
                &key,
                &root,
            ),
            None,
        ),
    ] {
        for role in [Role::Server, Role::Client] {
            let read = |issuers: &str| {
                Material::of_files(
                    file("tls.crt", format!("{leaf}{issuers}")),
                    file("tls.key", leaf_key.serialize_pem()),
                    file("ca.crt", root_pem.clone()),
                    None,
                )
            };
            let first = Snapshot::first(role, read(&good), Rules::default(), now).unwrap();
            let (next, faults) = first.next(read(&chain), true, now);
            let said: Vec<_> = faults.iter().map(|fault| fault.error.code()).collect();
            assert_eq!(said, Vec::from_iter(refused), "{what}, as {role:?}");
            assert_eq!(next.is_some(), refused.is_none(), "{what}, as {role:?}");
        }
    }
}

/// The list of an authority, with this number.
fn list(issuer: &Issuer<'_, KeyPair>, number: u64) -> String {
    let now = SystemTime::now();
    let list = CertificateRevocationListParams {
        this_update: (now - DAY).into(),
        next_update: (now + DAY).into(),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap().pem().unwrap()
}

#[test]
fn a_file_that_is_written_slowly_makes_one_line() {
    let ((a_pem, a), (b_pem, b)) = (root("a"), root("b"));
    let leaf = || {
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI("spiffe://acme.test/a".try_into().unwrap())];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        (leaf.signed_by(&key, &a).unwrap().pem(), key.serialize_pem())
    };
    let (old, new) = (leaf(), leaf());
    let lists = |number| list(&a, number) + &list(&b, number);
    let files = [old.0 + &a_pem, old.1, a_pem.clone() + &b_pem, lists(1)];
    let read = |[chain, key, roots, crls]: [String; 4]| {
        Material::of_files(
            file("tls.crt", chain),
            file("tls.key", key),
            file("ca.crt", roots),
            Some(file("crl.pem", crls)),
        )
    };
    let now = SystemTime::now();
    let first =
        || Snapshot::first(Role::Server, read(files.clone()), Rules::default(), now).unwrap();
    for (place, name, written) in [
        (0, "a chain", new.0 + &a_pem),
        (1, "a key", new.1),
        (2, "roots", a_pem.clone() + &b_pem),
        (2, "a root more", a_pem.clone() + &b_pem + &root("c").0),
        (3, "lists", lists(2)),
        (3, "the same lists", files[3].clone()),
    ] {
        for step in [100, 250, 400, 650] {
            let (mut current, mut faults, mut said) = (first(), Faults::default(), Vec::new());
            for end in (0..written.len()).step_by(step) {
                let mut files = files.clone();
                files[place] = written[..end].to_owned();
                // Twice the same half, so that each is worth a line.
                for agree in [false, true] {
                    let (next, found) = current.next(read(files.clone()), agree, now);
                    faults.found(found);
                    current = next.unwrap_or(current);
                    said.extend(faults.take_due());
                }
            }
            assert_eq!(said.len(), 1, "{name}, {step} bytes at a time: {said:#?}");
        }
    }
}
