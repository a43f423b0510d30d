//! Names in a chain: constraints about them, and names that no parser should read.

use rcgen::{DistinguishedName, DnType, DnValue, GeneralSubtree, Issuer, KeyPair, NameConstraints};
use rustls::pki_types::CertificateDer;

use crate::encoded::{other_signature, tlv, with_subject};
use crate::minted::{
    self, DAY, authority, intermediate, issued, leaf, list, respelt, root, verdict,
};

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
        let (intermediate, issuer) = intermediate(params, &root);
        let chain = [issued(&leaf, &issuer), intermediate];
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
    let (root_pem, root) = root("root");
    let mut params = authority("issuing", 10 * DAY);
    let acme = directory_name(&[(DnType::OrganizationName, "Acme")]);
    params.name_constraints = Some(constraints(&[GeneralSubtree::DirectoryName(acme)], &[]));
    let (authority, issuer) = intermediate(params, &root);
    let signed = |organization: &str| {
        let mut leaf = leaf(7, &[]);
        leaf.distinguished_name = directory_name(&[(DnType::OrganizationName, organization)]);
        issued(&leaf, &issuer)
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

#[test]
fn a_name_that_parsers_read_in_part_only_is_refused() {
    let (root_pem, root) = root("root");
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

/// The chain of a leaf and its authority, which spell the names of their issuers like this.
fn chain_of(
    (root, name): (&Issuer<'_, KeyPair>, DnValue),
    (issuing, below): (&Issuer<'_, KeyPair>, DnValue),
) -> [CertificateDer<'static>; 2] {
    let mut params = authority("Acme Issuing", 5 * DAY);
    let acme = directory_name(&[(DnType::OrganizationName, "Acme")]);
    let mut leaf = leaf(7, &[]);
    leaf.distinguished_name = acme.clone();
    params.name_constraints = Some(constraints(&[GeneralSubtree::DirectoryName(acme)], &[]));
    let authority = params.signed_by(issuing.key(), &respelt(root, name));
    let leaf = issued(&leaf, &respelt(issuing, below));
    [leaf, authority.unwrap().der().clone()]
}

#[test]
fn an_issuer_is_found_however_its_name_is_spelt_below_it() {
    let utf8 = |name: &str| DnValue::Utf8String(name.to_owned());
    let printable = |name: &str| DnValue::PrintableString(name.try_into().unwrap());
    let bmp = |name: &str| DnValue::BmpString(name.try_into().unwrap());
    let teletex = |name: &str| DnValue::TeletexString(name.try_into().unwrap());
    let (root_pem, root) = root("Acme");
    let (_, issuing) = minted::root("Acme Issuing");
    let (_, stranger) = minted::root("Acme Issuing");
    let as_it_is = || (utf8("Acme"), utf8("Acme Issuing"));
    for (name, below, expected) in [
        (utf8("Acme"), utf8("Acme Issuing"), "accepted"),
        (utf8("Acme"), printable("Acme Issuing"), "accepted"),
        (printable("Acme"), utf8("Acme Issuing"), "accepted"),
        (printable("Acme"), printable("Acme Issuing"), "accepted"),
        (printable(" ACME "), utf8("acme   issuing"), "accepted"),
        (bmp("Acme"), bmp("Acme Issuing"), "accepted"),
        (teletex("Acme"), teletex("Acme Issuing"), "accepted"),
        (
            printable("Acme"),
            printable("AcmeIssuing"),
            "UNKNOWN_ISSUER",
        ),
        (
            printable("Ac me"),
            printable("Acme Issuing"),
            "UNKNOWN_ISSUER",
        ),
        (utf8("Acme 2"), utf8("Acme Issuing"), "UNKNOWN_ISSUER"),
    ] {
        let what = format!("{name:?}, {below:?}");
        let chain = chain_of((&root, name.clone()), (&issuing, below.clone()));
        assert_eq!(verdict(&root_pem, &[], &chain), expected, "{what}");
        if expected != "accepted" {
            continue;
        }
        // The name finds the issuer, and its key decides.
        let forged = chain_of((&root, name.clone()), (&stranger, below.clone()));
        let mixed = [forged[0].clone(), chain[1].clone()];
        assert_eq!(verdict(&root_pem, &[], &mixed), "BAD_SIGNATURE", "{what}");
        let forged = chain_of((&stranger, name.clone()), (&issuing, below.clone()));
        assert_eq!(verdict(&root_pem, &[], &forged), "BAD_SIGNATURE", "{what}");
        // Lists revoke, and constraints hold, whoever spells the name of the issuer how.
        for speller in [as_it_is().1, below.clone()] {
            let revoking = list(&respelt(&issuing, speller), &[7], None);
            let said = verdict(&root_pem, &[revoking], &chain);
            assert_eq!(said, "CERTIFICATE_REVOKED", "{what}");
        }
        // What is no DER stays that.
        let rest = chain[1].strip_prefix(&[0x30, 0x82]).unwrap();
        let long = CertificateDer::from([&[0x30, 0x83, 0], rest].concat());
        let said = verdict(&root_pem, &[], &[chain[0].clone(), long]);
        assert_eq!(said, "CERTIFICATE_MALFORMED", "{what}");
        let mut outside = leaf(7, &[]);
        outside.distinguished_name = directory_name(&[(DnType::OrganizationName, "Mallory")]);
        let outside = [
            issued(&outside, &respelt(&issuing, below)),
            chain[1].clone(),
        ];
        let said = verdict(&root_pem, &[], &outside);
        assert_eq!(said, "CERTIFICATE_MALFORMED", "{what}");
    }
}
