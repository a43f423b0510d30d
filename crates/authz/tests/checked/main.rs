//! What `check` finds in policies that are valid and probably wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod principals;

use countersign_authz::{Api, Finding, Policy, Severity};
use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

const ERROR: Severity = Severity::Error;
const WARNING: Severity = Severity::Warning;

fn api() -> Api {
    let service = |name: &str, methods: &[&str]| ServiceDescriptorProto {
        name: Some(name.into()),
        method: methods
            .iter()
            .map(|method| MethodDescriptorProto {
                name: Some((*method).into()),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        package: Some("shop.v1".into()),
        service: vec![
            service("Shop", &["Get", "Put"]),
            service("ShopAdmin", &["Reset"]),
        ],
        ..Default::default()
    };
    Api::from_descriptor_set(&FileDescriptorSet { file: vec![file] }.encode_to_vec()).unwrap()
}

/// Three rules that say something of every RPC, in a policy without findings.
fn policy(deny: &str, allow: &str) -> Policy {
    let text = format!(
        r#"{{"name": "p", "deny_rules": [{deny}], "allow_rules": [
            {{"name": "all", "source": {{"principals": ["spiffe://a.test/op"]}},
             "request": {{"paths": ["/shop.v1.Shop/*", "/shop.v1.ShopAdmin/Reset"]}}}}
            {allow}]}}"#
    );
    Policy::parse(text.as_bytes()).unwrap()
}

fn codes(findings: &[Finding]) -> Vec<(Severity, &str, &str)> {
    findings
        .iter()
        .map(|found| (found.severity, found.code, found.pointer.as_str()))
        .collect()
}

#[test]
fn a_sound_policy_has_no_finding() {
    assert_eq!(countersign_authz::check(&policy("", ""), &api()), []);
}

#[test]
fn each_fault_has_its_finding() {
    let ok = r#""source": {"principals": ["spiffe://a.test/x"]}"#;
    let get = r#""request": {"paths": ["/shop.v1.Shop/Get"]}"#;
    let allow_path =
        |path: &str| format!(r#", {{"name": "r", {ok}, "request": {{"paths": [{path:?}]}}}}"#);
    let allow_principal =
        |name: &str| format!(r#", {{"name": "r", "source": {{"principals": [{name:?}]}}, {get}}}"#);
    let deny_principal =
        |name: &str| format!(r#"{{"name": "d", "source": {{"principals": [{name:?}]}}, {get}}}"#);
    let path = "/allow_rules/1/request/paths/0";
    let principal = "/allow_rules/1/source/principals/0";
    let denied = "/deny_rules/0/source/principals/0";
    for (why, deny, allow, expected) in [
        (
            "a typo in a path",
            String::new(),
            allow_path("/shop.v1.Shop/Gett"),
            (ERROR, "unknown-path", path),
        ),
        (
            "another case",
            String::new(),
            allow_path("/shop.v1.shop/Get"),
            (ERROR, "unknown-path", path),
        ),
        (
            "a prefix of nothing",
            String::new(),
            allow_path("/shop.v2.Shop/*"),
            (ERROR, "unknown-path", path),
        ),
        (
            "a suffix of nothing",
            String::new(),
            allow_path("*/shop.v1.Shop/Gett"),
            (ERROR, "unknown-path", path),
        ),
        (
            "no leading slash",
            String::new(),
            allow_path("shop.v1.Shop/Get"),
            (ERROR, "malformed-path", path),
        ),
        (
            "no leading slash in a prefix",
            String::new(),
            allow_path("shop.v1.Shop/*"),
            (ERROR, "malformed-path", path),
        ),
        (
            "a double slash",
            String::new(),
            allow_path("//shop.v1.Shop/*"),
            (ERROR, "malformed-path", path),
        ),
        (
            "a query",
            String::new(),
            allow_path("/shop.v1.Shop/Get?x"),
            (ERROR, "malformed-path", path),
        ),
        (
            "an empty path",
            String::new(),
            allow_path(""),
            (ERROR, "malformed-path", path),
        ),
        (
            "a suffix with a slash at its end",
            String::new(),
            allow_path("*/Get/"),
            (ERROR, "malformed-path", path),
        ),
        (
            "a prefix over two services",
            String::new(),
            allow_path("/shop.v1.Shop*"),
            (WARNING, "crosses-services", path),
        ),
        (
            "a suffix over all services",
            String::new(),
            allow_path("*/Get"),
            (WARNING, "crosses-services", path),
        ),
        (
            "a malformed SPIFFE ID",
            String::new(),
            allow_principal("spiffe://A.test/x"),
            (ERROR, "malformed-spiffe-id", principal),
        ),
        (
            "an ID with an open end",
            String::new(),
            allow_principal("spiffe://a.test/"),
            (ERROR, "malformed-spiffe-id", principal),
        ),
        (
            "spaces in a subject",
            String::new(),
            allow_principal("CN=a, O=b"),
            (ERROR, "subject-spaces", principal),
        ),
        (
            "a subject from the other end",
            String::new(),
            allow_principal("C=US,O=b,CN=a"),
            (WARNING, "subject-order", principal),
        ),
        (
            "a space after a name",
            String::new(),
            allow_principal("a.test "),
            (ERROR, "spaces", principal),
        ),
        (
            "callers without certificate",
            String::new(),
            allow_principal(""),
            (WARNING, "nobody", principal),
        ),
        (
            "an open trust domain",
            String::new(),
            allow_principal("spiffe://a.test*"),
            (WARNING, "crosses-trust-domains", principal),
        ),
        (
            "an open path",
            String::new(),
            allow_principal("spiffe://a.test/x*"),
            (WARNING, "open-prefix", principal),
        ),
        (
            "an open subject",
            String::new(),
            allow_principal("CN=a*"),
            (WARNING, "open-prefix", principal),
        ),
        (
            "an open DNS name",
            String::new(),
            allow_principal("www.*"),
            (WARNING, "open-prefix", principal),
        ),
        (
            "a suffix",
            String::new(),
            allow_principal("*.a.test"),
            (WARNING, "suffix-of-any-kind", principal),
        ),
        (
            "a star inside",
            String::new(),
            allow_principal("spiffe://a.*.test/x*"),
            (WARNING, "literal-star", principal),
        ),
        (
            "a DNS name that is denied",
            deny_principal("a.test"),
            String::new(),
            (WARNING, "identity-order", denied),
        ),
        (
            "a subject that is denied",
            deny_principal("CN=a,O=b"),
            String::new(),
            (WARNING, "identity-order", denied),
        ),
        (
            "an allow that a deny takes back",
            format!(r#"{{"name": "d", {get}}}"#),
            allow_path("/shop.v1.Shop/Get"),
            (WARNING, "never-allows", "/allow_rules/1"),
        ),
        (
            "one name in both lists",
            format!(r#"{{"name": "all", {ok}, {get}}}"#),
            String::new(),
            (WARNING, "same-name", "/allow_rules/0"),
        ),
        (
            "anybody",
            String::new(),
            format!(r#", {{"name": "r", {get}}}"#),
            (WARNING, "any-caller", "/allow_rules/1"),
        ),
        (
            "any RPC",
            String::new(),
            format!(r#", {{"name": "r", {ok}}}"#),
            (WARNING, "any-rpc", "/allow_rules/1"),
        ),
        (
            "an empty list",
            String::new(),
            format!(r#", {{"name": "r", "source": {{"principals": []}}, {get}}}"#),
            (WARNING, "empty-list", "/allow_rules/1/source/principals"),
        ),
        (
            "a pattern within another",
            String::new(),
            format!(
                r#", {{"name": "r", {ok}, "request": {{"paths": ["/shop.v1.Shop/Get", "/shop.v1.Shop/*"]}}}}"#
            ),
            (WARNING, "redundant-pattern", path),
        ),
        (
            "headers that contradict each other",
            String::new(),
            format!(
                r#", {{"name": "r", {ok}, "request": {{"paths": ["/shop.v1.Shop/Get"], "headers": [
                    {{"key": "k", "values": ["a", "b*"]}}, {{"key": "K", "values": ["c", "ab*"]}}]}}}}"#
            ),
            (ERROR, "never-matches", "/allow_rules/1/request/headers/1"),
        ),
        (
            "a deny by header",
            r#"{"name": "d", "request": {"headers": [{"key": "k", "values": ["v"]}]}}"#.into(),
            String::new(),
            (
                WARNING,
                "evadable-header",
                "/deny_rules/0/request/headers/0",
            ),
        ),
    ] {
        let found = countersign_authz::check(&policy(&deny, &allow), &api());
        assert!(codes(&found).contains(&expected), "{why}: {found:#?}");
    }
}

#[test]
fn an_audit_log_that_stays_silent_is_named() {
    let found = |options: &str| {
        let text = format!(
            r#"{{"name": "p", "audit_logging_options": {options}, "allow_rules": [
                {{"name": "r", "source": {{"principals": ["*"]}}, "request": {{"paths": ["/shop.v1.Shop/*"]}}}}]}}"#
        );
        countersign_authz::lint(&Policy::parse(text.as_bytes()).unwrap())
    };
    let whole = (WARNING, "silent-audit", "/audit_logging_options");
    let optional = r#"[{"name": "siem", "is_optional": true}]"#;
    let left_out = "/audit_logging_options/audit_loggers/0";
    for (options, expected) in [
        (r#"{"audit_condition": "ON_DENY"}"#.to_owned(), vec![whole]),
        (
            r#"{"audit_loggers": [{"name": "stdout_logger"}]}"#.to_owned(),
            vec![whole],
        ),
        (
            format!(r#"{{"audit_condition": "ON_DENY", "audit_loggers": {optional}}}"#),
            vec![(WARNING, "logger-left-out", left_out), whole],
        ),
    ] {
        assert_eq!(codes(&found(&options)), expected, "{options}");
    }
}

#[test]
fn an_rpc_that_no_rule_mentions_is_named() {
    let text = br#"{"name": "p",
        "allow_rules": [{"name": "r", "source": {"principals": ["*"]},
        "request": {"paths": ["/shop.v1.Shop/*"]}}]}"#;
    let found = countersign_authz::check(&Policy::parse(text).unwrap(), &api());
    assert_eq!(codes(&found), [(WARNING, "uncovered-rpc", "/allow_rules")]);
    assert_eq!(found[0].line, 2);
    assert!(
        found[0].message.contains("/shop.v1.ShopAdmin/Reset"),
        "{}",
        found[0]
    );
}

#[test]
fn a_finding_tells_the_line_and_the_probable_name() {
    let text = "{\"name\": \"p\",\n\"allow_rules\": [\n{\"name\": \"r\", \"source\": {\"principals\": [\"*\"]},\n\"request\": \
                {\"paths\": [\"/shop.v1.Shop*\",\n\"/shop.v1.Shop/get\", \"*/Reset\"]}}]}";
    let found = countersign_authz::check(&Policy::parse(text.as_bytes()).unwrap(), &api());
    let typo = found
        .iter()
        .find(|found| found.code == "unknown-path")
        .unwrap();
    assert_eq!(
        typo.to_string(),
        "line 5: /allow_rules/0/request/paths/1: \"/shop.v1.Shop/get\" names no RPC of this API; did you mean \
         /shop.v1.Shop/Get? [unknown-path]"
    );
}

#[test]
fn advice_on_a_mebibyte_of_the_worst_has_a_bound_and_says_that_it_was_met() {
    let list = |items: &str, times: usize| vec![items; times].join(",");
    let rule = |rest: &str| format!(r#"{{"name": "p", "allow_rules": [{{"name": "r", {rest}}}]}}"#);
    let rules = |which: &str, path: &str| -> String {
        let rules: Vec<String> = (0..10_000)
            .map(|at| {
                format!(r#"{{"name": "{which}{at}", "request": {{"paths": ["/s/{path}{at}*"]}}}}"#)
            })
            .collect();
        rules.join(",")
    };
    let (allow, deny) = (rules("a", "x"), rules("d", "y"));
    for text in [
        rule(&format!(
            r#""source": {{"principals": [{}]}}"#,
            list(r#""a*""#, 200_000)
        )),
        rule(&format!(
            r#""request": {{"paths": [{}]}}"#,
            list(r#""/a*""#, 180_000)
        )),
        rule(&format!(
            r#""request": {{"headers": [{}]}}"#,
            list(r#"{"key": "k", "values": ["v"]}"#, 35_000)
        )),
        rule(&format!(
            r#""request": {{"headers": [{{"key": "k", "values": [{}]}}, {{"key": "k", "values": [{}]}}]}}"#,
            list(r#""a*""#, 100_000),
            list(r#""b*""#, 100_000)
        )),
        format!(r#"{{"name": "p", "deny_rules": [{deny}], "allow_rules": [{allow}]}}"#),
    ] {
        assert!(text.len() > 900_000, "{text:.60}");
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let found = countersign_authz::check(&policy, &api());
        let missing = found.iter().filter(|it| it.code == "not-compared").count();
        assert_eq!(missing, 1, "{text:.60}");
    }
}
