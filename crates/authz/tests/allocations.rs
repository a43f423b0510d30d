//! An allow allocates nothing, however the rule matches.

use countersign_authz::{Caller, Policy};
use http::{HeaderMap, HeaderName, HeaderValue};

#[test]
fn an_allow_allocates_nothing() {
    let policy = Policy::parse(
        br#"{"name": "p",
        "deny_rules": [{"name": "d", "source": {"principals": ["*,O=Evil"]},
            "request": {"paths": ["*/Delete"], "headers": [{"key": "k", "values": ["x,y*"]}]}}],
        "allow_rules": [
            {"name": "exact", "source": {"principals": ["spiffe://t/a"]}, "request": {"paths": ["/a.S/Get"]}},
            {"name": "service", "source": {"principals": ["*.a.test"]}, "request": {"paths": ["/a.T/*"]}},
            {"name": "subject", "source": {"principals": ["CN=a,*"]}, "request": {"paths": ["*/Put"]}},
            {"name": "headers", "request": {"paths": ["/a.U/Get"], "headers": [
                {"key": "k", "values": ["no", "1,2*"]}, {"key": "k-bin", "values": ["*YQ=="]}]}}]}"#,
    )
    .unwrap();
    let caller = |uris: &[&str], dns: &[&str], subject: &str| {
        let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Caller::Authenticated {
            uri_sans: strings(uris),
            dns_sans: strings(dns),
            subject: subject.into(),
        }
    };
    let mut headers = HeaderMap::new();
    for (key, value) in [
        ("k", "1"),
        ("k", "2"),
        ("k", "3"),
        ("k-bin", "eA==,YQ"),
        ("k-bin", "YQ=="),
    ] {
        headers.append(
            HeaderName::from_static(key),
            HeaderValue::from_static(value),
        );
    }
    for (caller, path, rule) in [
        (
            caller(&["spiffe://t/b", "spiffe://t/a"], &[], ""),
            "/a.S/Get",
            "exact",
        ),
        (
            caller(&[], &["b.test", "x.a.test"], ""),
            "/a.T/Get",
            "service",
        ),
        (caller(&[], &[], "CN=a,O=Acme"), "/a.S/Put", "subject"),
        (Caller::Plaintext, "/a.U/Get", "headers"),
    ] {
        let mut decided = None;
        let allocations = allocation_counter::measure(|| {
            let decision = policy.decide(&caller, path, &headers);
            decided = decision.is_allowed().then_some(decision.rule()).flatten();
        });
        assert_eq!(decided, Some(rule));
        assert_eq!(allocations.count_total, 0, "{rule}: {allocations:?}");
    }
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1])));
    assert_eq!(counted.count_total, 1, "the counter counts");
}
