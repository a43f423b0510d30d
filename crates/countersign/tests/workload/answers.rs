//! What an agent says amiss, and its revocation lists.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cli::pki::Revocation;
use countersign::identity::Role;
use countersign::mtls::{MissingCrls, Reload, Source, Trust};
use pki_types::CertificateRevocationListDer;
use pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use crate::agent::{Agent, Domain, Says, answer};
use crate::{ACME, PARTNER, eventually, is_refused, judge, open, own, reload};

/// What an agent may say that must not be used, and the code of it.
fn bad(acme: &Domain, partner: &Domain) -> Vec<(&'static str, Says, &'static str)> {
    let good = || acme.svid("orders");
    let says = |svid| Says::from(answer(vec![svid], &[]));
    let with = |change: fn(&mut test_contract::X509svid)| {
        let mut svid = acme.svid("orders");
        change(&mut svid);
        says(svid)
    };
    let mut foreign_key = good();
    foreign_key.x509_svid_key = good().x509_svid_key;
    let mut of_another = good();
    of_another.spiffe_id = "spiffe://acme.test/admin".to_owned();
    let mut foreign_roots = good();
    foreign_roots.bundle = partner.bundle();
    let mut leaf_as_root = good();
    leaf_as_root.bundle = leaf_as_root.x509_svid.clone();
    let own_bundle_again = answer(vec![good()], &[&Domain::new(ACME)]);
    let mut many = answer(Vec::new(), &[]);
    many.svids = (0..65)
        .map(|_| test_contract::X509svid::default())
        .collect();
    let mut nameless = answer(vec![good()], &[]);
    nameless
        .federated_bundles
        .insert("partner".to_owned(), partner.bundle());
    let mut bad_list = answer(vec![good()], &[]);
    bad_list.crl = vec![b"list".to_vec()];
    let mut empty_list = answer(vec![good()], &[]);
    empty_list.crl = vec![Vec::new()];
    let raw = |bytes: &'static [u8]| Says::Message(Bytes::from_static(bytes));
    vec![
        ("refused", Says::Denied, "WORKLOAD_API_DENIED"),
        ("a foreign key", says(foreign_key), "KEY_MISMATCH"),
        ("the ID of another", says(of_another), "SVID_WRONG_ID"),
        (
            "a bundle without roots",
            with(|it| it.bundle.clear()),
            "BUNDLE_EMPTY",
        ),
        ("a bundle of others", says(foreign_roots), "UNKNOWN_ISSUER"),
        (
            "a bundle that is a leaf",
            says(leaf_as_root),
            "CERTIFICATE_MALFORMED",
        ),
        (
            "no chain",
            with(|it| it.x509_svid.clear()),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "no key",
            with(|it| it.x509_svid_key.clear()),
            "KEY_UNUSABLE",
        ),
        (
            "no ID",
            with(|it| it.spiffe_id.clear()),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "a chain that is no DER",
            with(|it| it.x509_svid = b"no".to_vec()),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "a chain of another kind",
            with(|it| it.x509_svid = vec![0x30, 0]),
            "CERTIFICATE_MALFORMED",
        ),
        (
            "no SVID",
            Says::from(answer(Vec::new(), &[])),
            "SVID_NOT_FOUND",
        ),
        (
            "a list that is none",
            Says::from(bad_list),
            "CRL_UNSUPPORTED",
        ),
        (
            "a list of no bytes",
            Says::from(empty_list),
            "CRL_UNSUPPORTED",
        ),
        (
            "a second bundle of ours",
            Says::from(own_bundle_again),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "a bundle of nobody",
            Says::from(nameless),
            "WORKLOAD_API_MALFORMED",
        ),
        ("too many SVIDs", Says::from(many), "WORKLOAD_API_MALFORMED"),
        (
            "garbage",
            raw(b"\xff\xff\xff\xff garbage"),
            "WORKLOAD_API_MALFORMED",
        ),
        (
            "5 MiB",
            Says::Message(vec![0; 5 << 20].into()),
            "WORKLOAD_API_MALFORMED",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_amiss_is_an_error_at_the_start_and_leaves_the_last_good_later() {
    let (acme, partner) = (Domain::new(ACME), Domain::new(PARTNER));
    let good = || answer(vec![acme.svid("orders")], &[]);
    for (case, says, code) in bad(&acme, &partner) {
        let agent = Agent::saying(says.clone());
        let impatient = || agent.api().with_patience(Duration::from_millis(400));
        for role in [Role::Server, Role::Client] {
            let error = open(role, impatient()).map(|_trust| ()).unwrap_err();
            assert_eq!(error.code(), code, "{case}: {error}");
            assert!(
                error.to_string().contains(&agent.address()),
                "{case}: {error}"
            );
        }

        agent.says(good());
        let trust = open(Role::Client, agent.api()).unwrap();
        let before = trust.current();
        agent.says(says);
        eventually(case, || is_refused(&trust)).await;
        let now = trust.current();
        let is = if case == "a bundle of others" {
            "root"
        } else {
            "spiffe://acme.test/orders"
        };
        assert!(own(&trust).contains(is), "{case}: {}", own(&trust));
        // No fault of the roots or of a list holds back an SVID that is sound.
        let is_sound = [
            "a bundle without roots",
            "a bundle that is a leaf",
            "a list that is none",
            "a list of no bytes",
        ];
        assert_eq!(
            now.chain() != before.chain(),
            is_sound.contains(&case),
            "{case}"
        );
        let believes = |domain: &Domain, id| {
            let chain = domain.leaf(&[id]).chain;
            now.authorities()
                .judge(Role::Client, &chain, SystemTime::now())
                .is_ok()
        };
        if case != "a bundle of others" {
            assert!(believes(&acme, "spiffe://acme.test/a"), "{case}");
        }
        assert!(!believes(&partner, "spiffe://partner.test/a"), "{case}");

        agent.says(good());
        eventually(case, || trust.current().chain() != before.chain()).await;
        eventually(case, || !is_refused(&trust)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_an_agent_revoke() {
    let acme = Domain::new(ACME);
    let now = OffsetDateTime::now_utc();
    let minute = time::Duration::minutes(1);
    let orders = acme.leaf(&["spiffe://acme.test/orders"]);
    let list = |number, revoked: &[Revocation]| {
        let list = acme
            .root
            .crl(number, revoked, now - minute, now + 60 * minute);
        let list = CertificateRevocationListDer::from_pem_slice(list.unwrap().as_bytes());
        list.unwrap().to_vec()
    };
    let mut says = answer(vec![acme.svid("echo")], &[]);
    says.crl = vec![list(1, &[])];
    let agent = Agent::saying(says.clone());
    let trust = open(Role::Server, agent.api()).unwrap();
    let judge = || judge(&trust, Role::Client, &orders.chain);
    assert_eq!(judge(), "accepted");
    let revocation = Revocation {
        serial: orders.serial.clone(),
        at: now - minute,
    };
    says.crl = vec![list(2, &[revocation])];
    agent.says(says.clone());
    eventually("the new list", || judge() == "CERTIFICATE_REVOKED").await;
    for (case, lists) in [("older", vec![list(1, &[])]), ("gone", Vec::new())] {
        says.crl = lists;
        agent.says(says.clone());
        eventually(case, || is_refused(&trust)).await;
        assert_eq!(judge(), "CERTIFICATE_REVOKED", "{case}");
    }

    let required = || {
        let reload = Reload {
            missing_crls: MissingCrls::Refuse,
            ..reload()
        };
        Trust::open(Role::Server, Source::workload_api(agent.api()), reload)
    };
    assert_eq!(
        required().map(|_trust| ()).unwrap_err().code(),
        "CRL_REQUIRED"
    );
    says.crl = vec![list(3, &[])];
    agent.says(says);
    eventually("the list", || required().is_ok()).await;
}
