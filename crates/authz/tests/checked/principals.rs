//! Principals that no certificate has, or that may mean somebody else.

use countersign_authz::Finding;

use crate::{ERROR, WARNING, api, policy};

/// What is found in a policy that allows, or denies, this principal.
fn findings(list: &str, name: &str) -> Vec<Finding> {
    let rule = format!(
        r#"{{"name": "r", "source": {{"principals": [{}]}}, "request": {{"paths": ["/shop.v1.Shop/Get"]}}}}"#,
        serde_json::to_string(name).unwrap()
    );
    let policy = match list {
        "allow" => policy("", &format!(", {rule}")),
        _ => policy(&rule, ""),
    };
    countersign_authz::check(&policy, &api())
}

#[test]
fn a_principal_that_no_certificate_can_have_is_an_error_that_says_what_to_write() {
    let label = "a".repeat(64);
    let long = format!("{label}.acme.test");
    for (name, code, advice) in [
        ("/C=US/O=Acme/CN=x", "subject-form", "CN=x,O=Acme,C=US"),
        ("cn=x,o=Acme", "subject-form", "CN=x,O=Acme"),
        (
            "EMAILADDRESS=a@b.test,CN=x",
            "subject-form",
            "emailAddress=a@b.test,CN=x",
        ),
        (
            "E=a@b.test,CN=x",
            "subject-form",
            "emailAddress=a@b.test,CN=x",
        ),
        (
            "CN=Müller,O=Acme",
            "subject-form",
            r"CN=M\\C3\\BCller,O=Acme",
        ),
        (r"CN=M\c3\bcller", "subject-form", r"CN=M\\C3\\BCller"),
        ("CN=J + O=users,C=US", "subject-form", "O=users+CN=J,C=US"),
        ("1.2.3=#0401ff+O=a", "subject-form", "O=a+1.2.3=#0401FF"),
        ("cn=a+UID=1+OU=b", "subject-form", "UID=1+OU=b+CN=a"),
        ("CN=a+CN=b", "subject-form", "two common names"),
        ("CN=a,O=b,CN=c", "subject-form", "two common names"),
        ("2.5.4.3=#0c0178", "subject-form", "2.5.4.3 is written CN"),
        (
            "CN=x+2.5.4.5=#130131",
            "subject-form",
            "2.5.4.5 is written serialNumber",
        ),
        ("CN=#0C0178", "subject-form", "write it as text"),
        ("O=x,CN=#", "subject-form", "not hexadecimal"),
        ("orders.a.test:443", "malformed-dns-name", "orders.a.test"),
        ("CN=a; O=b", "subject-form", "CN=a,O=b"),
        ("CN=a , O=b", "subject-spaces", "CN=a,O=b"),
        ("CN=\"a,b\",O=c", "subject-form", r"CN=a\\,b,O=c"),
        (r"CN=a\2cb", "subject-form", r"CN=a\\,b"),
        (r"CN=a\=b", "subject-form", "CN=a=b"),
        ("CN=x,XYZ=y", "subject-form", "\"XYZ\" is unknown"),
        ("CN=x,1.2.3=y", "subject-form", "hexadecimal"),
        ("CN=x,1.2.3=#04024a", "subject-form", "1.2.3=#04024A"),
        ("CN=x,O=#zz", "subject-form", "not hexadecimal"),
        (r"CN=x\", "subject-form", "escapes nothing"),
        ("CN=x,O", "subject-form", "equals sign"),
        ("CN=x ", "spaces", "CN=x"),
        (
            "URI:spiffe://a.test/x",
            "labelled-name",
            "spiffe://a.test/x",
        ),
        ("DNS:a.test", "labelled-name", "a.test"),
        (" spiffe://a.test/x", "spaces", "spiffe://a.test/x"),
        ("spiffe://a.test/x\u{a0}", "spaces", "spiffe://a.test/x"),
        ("spiffe://A.test/x", "malformed-spiffe-id", "SPIFFE ID"),
        ("SPIFFE://a.test/x", "malformed-spiffe-id", "SPIFFE ID"),
        ("https://a.test/a b", "malformed-uri", "percent-encoded"),
        ("https://a.test/%zz", "malformed-uri", "percent-encoded"),
        ("1http://a.test", "malformed-uri", "scheme"),
        ("urn:", "malformed-uri", "nothing after"),
        ("ops@a.test", "no-identity", "e-mail"),
        ("10.0.0.1", "no-identity", "IP address"),
        ("::1", "no-identity", "IP address"),
        ("orders.a.test.", "malformed-dns-name", "orders.a.test"),
        ("a..test", "malformed-dns-name", "1 to 63"),
        (&long, "malformed-dns-name", "1 to 63"),
        ("bücher.test", "malformed-dns-name", "xn--"),
        (
            "a.test/ns/a/sa/b",
            "malformed-dns-name",
            "spiffe://a.test/ns/a/sa/b",
        ),
        ("a.test/*", "malformed-dns-name", "neither a URI"),
        ("o=Acme,*", "subject-form", "O=Acme"),
        ("spiffe://A.test/*", "malformed-spiffe-id", "SPIFFE ID"),
        ("*, O=Acme", "subject-form", "O=Acme"),
        ("*,o=Acme", "subject-form", "O=Acme"),
        ("*.a.test.", "malformed-dns-name", ".a.test"),
        ("*/a b", "no-identity", "do not end so"),
    ] {
        for list in ["allow", "deny"] {
            let found = findings(list, name);
            assert_eq!(found.len(), 1, "{name:?}: {found:?}");
            assert_eq!(
                (found[0].severity, found[0].code),
                (ERROR, code),
                "{name:?}"
            );
            assert!(found[0].message.contains(advice), "{name:?}: {}", found[0]);
        }
    }
}

#[test]
fn a_principal_in_the_form_of_a_certificate_is_no_error() {
    for name in [
        "spiffe://a.test/x",
        "spiffe://a.test/*",
        "spiffe://*",
        "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "https://a.test/%20x?y=z",
        "a.test",
        "under_score.a.test",
        "xn--bcher-kva.test",
        "A.test",
        "CN=a",
        "CN=a,*",
        "*,O=Acme",
        "*O=Acme",
        "*.a.test",
        "*/x",
        "www.*",
        r"CN=M\C3\BCller,O=Acme",
        r"CN=a\,b\+c,O=\#x,OU=\ y\ ",
        "OU=Sales+CN=J. Smith,DC=example,DC=net",
        "UID=jsmith,DC=example,DC=net",
        "1.3.6.1.4.1.1466.0=#04024869",
        "CN=http://a.test,O=b",
        "emailAddress=a@b.test,CN=x",
        "serialNumber=1,CN=x",
    ] {
        let found = findings("allow", name);
        assert!(
            found.iter().all(|it| it.severity == WARNING),
            "{name:?}: {found:?}"
        );
    }
}

/// As `openssl x509 -nameopt RFC2253` prints the subjects that `openssl req -subj` makes of these.
#[test]
fn what_is_joined_in_another_order_than_certificates_have_it_is_a_warning() {
    for (name, order) in [
        ("CN=J+O=users,C=US", "O=users+CN=J,C=US"),
        ("OU=Sales+CN=J. Smith,DC=net", "CN=J. Smith+OU=Sales,DC=net"),
        ("CN=a+UID=1+OU=b", "UID=1+OU=b+CN=a"),
        ("UID=1+OU=b+CN=a", ""),
        ("O=users+CN=J,*", ""),
        ("CN=b+OU=a,*", "OU=a+CN=b"),
        ("*,CN=b+OU=a", "OU=a+CN=b"),
        ("1.2.3=#0401FF+O=a", "O=a+1.2.3=#0401FF"),
    ] {
        let found = findings("allow", name);
        let found: Vec<_> = found
            .iter()
            .filter(|it| it.code == "subject-order")
            .collect();
        match order {
            "" => assert!(found.is_empty(), "{name}: {found:?}"),
            order => {
                assert_eq!(found.len(), 1, "{name}");
                assert_eq!(found[0].severity, WARNING);
                assert!(found[0].message.contains(order), "{name}: {}", found[0]);
            }
        }
    }
}

#[test]
fn upper_case_in_a_dns_name_and_a_denied_dns_name_say_how_names_are_compared() {
    for name in ["Orders.a.test", "orders.a.TEST", "*.A.test", "Www.*"] {
        let found = findings("deny", name);
        let case = found.iter().find(|it| it.code == "dns-case").unwrap();
        assert!(case.message.contains("byte for byte"), "{case}");
        assert!(case.message.contains(&name.to_lowercase()), "{case}");
    }
    let found = findings("deny", "orders.a.test");
    assert_eq!(found[0].code, "identity-order");
    assert!(found[0].message.contains("in other case"), "{}", found[0]);
    for name in ["CN=A", "spiffe://a.test/X"] {
        let found = findings("deny", name);
        assert!(found.iter().all(|it| it.code != "dns-case"), "{found:?}");
    }
}
