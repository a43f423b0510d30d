//! Trust domains: a peer is verified by the roots of its own.

use std::time::SystemTime;

use countersign::identity::Role;
use countersign::mtls::{self, Trust};
use tonic::Code;

use crate::agent::{Agent, Domain, answer};
use crate::{ACME, PARTNER, PATIENCE, call, client, eventually, is_refused, judge, open, server};

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_verified_by_the_roots_of_its_own_trust_domain() {
    let (acme, partner, other) = (
        Domain::new(ACME),
        Domain::new(PARTNER),
        Domain::new("other.test"),
    );
    let second_root = Domain::new(PARTNER);
    let agent = Agent::saying(answer(vec![acme.svid("echo")], &[&partner]));
    let trust = open(Role::Server, agent.api()).unwrap();
    let (ours, theirs) = ("spiffe://acme.test/orders", "spiffe://partner.test/shop");
    for role in [Role::Client, Role::Server] {
        for (case, signer, uris, expected) in [
            ("ours by our root", &acme, &[ours][..], "accepted"),
            ("theirs by their root", &partner, &[theirs], "accepted"),
            (
                "ours by their root",
                &partner,
                &[ours],
                "TRUST_DOMAIN_MISMATCH",
            ),
            (
                "theirs by our root",
                &acme,
                &[theirs],
                "TRUST_DOMAIN_MISMATCH",
            ),
            (
                "theirs by a root that they do not have",
                &second_root,
                &[theirs],
                "BAD_SIGNATURE",
            ),
            (
                "theirs by a root that nobody has",
                &other,
                &[theirs],
                "UNKNOWN_ISSUER",
            ),
            (
                "ours by a root that nobody has",
                &other,
                &[ours],
                "UNKNOWN_ISSUER",
            ),
            (
                "a domain without a bundle",
                &other,
                &["spiffe://other.test/a"],
                "TRUST_DOMAIN_UNKNOWN",
            ),
            (
                "a domain without a bundle, by our root",
                &acme,
                &["spiffe://other.test/a"],
                "TRUST_DOMAIN_UNKNOWN",
            ),
            (
                "a part of our domain's name",
                &acme,
                &["spiffe://acme.test.evil/a"],
                "TRUST_DOMAIN_UNKNOWN",
            ),
            ("no SPIFFE ID", &acme, &[], "SPIFFE_ID_MISSING"),
            (
                "another URI",
                &acme,
                &["https://acme.test/orders"],
                "SPIFFE_ID_MISSING",
            ),
            (
                "an ID in capitals",
                &acme,
                &["spiffe://ACME.TEST/orders"],
                "SPIFFE_ID_MISSING",
            ),
            ("two IDs", &acme, &[ours, theirs], "SPIFFE_ID_MISSING"),
            (
                "an ID beside another URI",
                &acme,
                &[ours, "https://acme.test"],
                "SPIFFE_ID_MISSING",
            ),
        ] {
            let said = judge(&trust, role, &signer.leaf(uris).chain);
            assert_eq!(said, expected, "{case}, as {role:?}");
        }
    }
    let leaf = partner.leaf(&[ours]);
    let refused = trust.current();
    let refused = refused
        .authorities()
        .judge(Role::Client, &leaf.chain, SystemTime::now());
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("acme.test") && text.contains("but its root to partner.test"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn federation_begins_and_ends_with_the_bundle() {
    let (acme, partner) = (Domain::new(ACME), Domain::new(PARTNER));
    let servers = Agent::saying(answer(vec![acme.svid("echo")], &[]));
    let theirs = open(Role::Server, servers.api()).unwrap();
    let address = server(theirs.clone()).await;
    let callers = Agent::saying(answer(vec![partner.svid("shop")], &[&acme]));
    let caller = || {
        let trust = open(Role::Client, callers.api()).unwrap();
        client(trust, address, "spiffe://acme.test/echo")
    };
    let refused = call(&mut caller()).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");

    let generation = theirs.current().generation();
    servers.says(answer(vec![acme.svid("echo")], &[&partner]));
    eventually("the bundle", || theirs.current().generation() > generation).await;
    let mut allowed = caller();
    assert_eq!(call(&mut allowed).await.code(), Code::AlreadyExists);

    // A connection that is open is judged again.
    let leaf = partner.leaf(&["spiffe://partner.test/shop"]);
    let snapshot = theirs.current();
    let peer = snapshot
        .authorities()
        .judge(Role::Client, &leaf.chain, SystemTime::now());
    let peer = peer.unwrap();
    let lost = mtls::lease_lost(&theirs, &peer, &leaf.chain);
    servers.says(answer(vec![acme.svid("echo")], &[]));
    let lost = tokio::time::timeout(PATIENCE, lost).await.unwrap();
    assert_eq!(lost.code(), "TRUST_DOMAIN_UNKNOWN");
    let refused = call(&mut caller()).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federated_bundle_that_is_bad_keeps_its_own_last_good_and_holds_nobody_back() {
    let (acme, partner) = (Domain::new(ACME), Domain::new(PARTNER));
    let agent = Agent::saying(answer(vec![acme.svid("echo")], &[&partner]));
    let trust = open(Role::Server, agent.api()).unwrap();
    let mut broken = answer(vec![acme.svid("echo")], &[]);
    let name = format!("spiffe://{PARTNER}");
    broken.federated_bundles.insert(name, vec![0x30, 0]);
    let before = trust.current();
    agent.says(broken.clone());
    eventually("our new SVID", || trust.current().chain() != before.chain()).await;
    eventually("the fault is said", || is_refused(&trust)).await;
    let chain = partner.leaf(&["spiffe://partner.test/shop"]).chain;
    let judge = |trust: &Trust| judge(trust, Role::Client, &chain);
    assert_eq!(judge(&trust), "accepted");

    // At a start there is no last good one, and no peer of that domain is accepted until there is.
    let trust = open(Role::Server, agent.api()).unwrap();
    assert_eq!(judge(&trust), "TRUST_DOMAIN_UNKNOWN");
    eventually("the fault is said", || is_refused(&trust)).await;
    agent.says(answer(vec![acme.svid("echo")], &[&partner]));
    eventually("the bundle", || judge(&trust) == "accepted").await;
}
