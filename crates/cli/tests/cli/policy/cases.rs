//! `policy test` and `policy explain`: the shared vectors, cases that hold or do not, and what is no case.

use serde_json::{Value, json};

use super::{GET, POLICY, case, sandbox};
use crate::tool::Sandbox;

const VECTORS: &str = include_str!("../../../../authz/tests/a43.json");

/// What the other implementations decide, but where the design is stricter on purpose.
fn expected(vector: &Value) -> &str {
    match vector["name"].as_str().unwrap() {
        "pattern/star_both_ends" | "valid/null_principals" => "invalid_policy",
        _ => vector["expect"].as_str().unwrap(),
    }
}

#[test]
fn every_vector_is_decided_and_checked_as_the_design_says() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    let sandbox = Sandbox::empty();
    for vector in &vectors {
        let (name, expected) = (vector["name"].as_str().unwrap(), expected(vector));
        let policy = match vector["policy_text"].as_str() {
            Some(text) => text.to_owned(),
            None => vector["policy"].to_string(),
        };
        sandbox.write("p.json", policy);
        let case = case(
            name,
            &vector["peer"],
            vector["method"].as_str().unwrap(),
            &vector["metadata"],
            if expected == "allow" { "allow" } else { "deny" },
        );
        sandbox.write("c.json", json!({ "cases": [case] }).to_string());
        let test = ["policy", "test", "--policy", "p.json", "c.json"];
        let check = ["policy", "check", "p.json", "--api", "none"];
        if expected == "invalid_policy" {
            for command in [&test[..], &check] {
                sandbox.refuse(command, "the policy p.json is not valid: line ");
            }
            continue;
        }
        let result = &sandbox.json(&test)["results"][0];
        assert_eq!(
            (&result["name"], &result["decision"], &result["ok"]),
            (&json!(name), &json!(expected), &json!(true)),
        );
        // The last event of the audit log names the rule and the principal that decided.
        if let Some(event) = vector["audit_events"].as_array().and_then(|it| it.last()) {
            assert_eq!(result["matched_rule"], event["matched_rule"], "{name}");
        }
        sandbox.succeed(&check);
    }
}

#[test]
fn a_case_that_does_not_hold_is_named_with_what_decided() {
    let sandbox = sandbox();
    let orders = json!({"uri_sans": ["spiffe://a.test/orders"]});
    let trainee = json!({"tls": true, "authenticated": true, "uri_sans": ["spiffe://a.test/trainee"], "dns_sans": [], "subject": ""});
    let cases = [
        case("orders get", &orders, GET, &json!({}), "allow"),
        case(
            "trainees may\u{1b}[2J\n",
            &trainee,
            GET,
            &json!({"MODE": ["live"]}),
            "allow",
        ),
        case(
            "trainees try",
            &trainee,
            GET,
            &json!({"mode": ["test"]}),
            "allow",
        ),
        case("no slash", &orders, "shop.v1.Shop/Get", &json!({}), "allow"),
        case(
            "no certificate",
            &json!({"authenticated": false}),
            GET,
            &json!({}),
            "deny",
        ),
        json!({"name": "by another rule", "peer": orders, "method": GET, "expect": "allow", "matched_rule": "put"}),
        json!({"name": "by the rule", "peer": orders, "method": GET, "expect": "allow", "matched_rule": "get"}),
        case("no TLS", &json!({"tls": false}), GET, &json!({}), "deny"),
    ];
    sandbox.write("c.json", json!({ "cases": cases }).to_string());
    let run = sandbox.run(&["policy", "test", "--policy", "p.json", "c.json"]);
    assert_eq!((run.code, &*run.err), (1, ""));
    assert_eq!(
        run.out,
        "ok    orders get\n\
         FAIL  trainees may\\u{1b}[2J\\n: expected allow, but it is deny, by the deny rule \"no-trainees\", for \
         \"spiffe://a.test/trainee\"\n\
         ok    trainees try\n\
         FAIL  no slash: expected allow, but it is deny, because the path is not /service/method, which the server \
         answers with UNIMPLEMENTED\n\
         ok    no certificate\n\
         FAIL  by another rule: expected allow by the rule \"put\", but it is allow, by the allow rule \"get\", for \
         \"spiffe://a.test/orders\"\n\
         ok    by the rule\n\
         ok    no TLS\n\
         5 of 8 cases passed\n"
    );
    let run = sandbox.run(&[
        "policy", "test", "--policy", "p.json", "c.json", "--output", "json",
    ]);
    assert_eq!(run.code, 1);
    let results: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(
        results["results"][1],
        json!({"name": "trainees may\u{1b}[2J\n", "decision": "deny", "matched_rule": "no-trainees",
               "principal": "spiffe://a.test/trainee", "ok": false})
    );
    assert_eq!(results["results"][3]["matched_rule"], "");
}

#[test]
fn cases_that_say_something_else_than_was_meant_are_refused() {
    let sandbox = sandbox();
    let good = r#"{"name":"n","peer":{"uri_sans":["u"]},"method":"/s/m","expect":"allow"}"#;
    let with = |field: &str| good.replacen("\"name\"", &format!("{field},\"name\""), 1);
    let peer = |peer: &str| good.replace(r#"{"uri_sans":["u"]}"#, peer);
    let metadata = |metadata: &str| with(&format!("\"metadata\":{metadata}"));
    let deep = "[".repeat(100_000);
    for (cases, why) in [
        (good.replace("expect", "expects"), "unknown field `expects`"),
        (good.replace("allow", "Allow"), "unknown variant `Allow`"),
        (
            good.replace(",\"expect\":\"allow\"", ""),
            "missing field `expect`",
        ),
        (with("\"expect\":\"deny\""), "duplicate field `expect`"),
        (with("\"\\u001b[31m\\n\":1"), "unknown field"),
        (good.replace("\"n\"", "\"\""), "a case has an empty name"),
        (format!("{good},{good}"), "two cases have the name \"n\""),
        (String::new(), "there is no case in it"),
        (peer("{\"uri_san\":[]}"), "unknown field `uri_san`"),
        (
            peer("{\"uri_sans\":[],\"uri_sans\":[]}"),
            "duplicate field `uri_sans`",
        ),
        (peer("{\"uri_sans\":null}"), "invalid type: null"),
        (
            peer("{\"tls\":false,\"authenticated\":true}"),
            "without TLS cannot be authenticated",
        ),
        (
            peer("{\"authenticated\":false,\"subject\":\"CN=a\"}"),
            "not authenticated has no names",
        ),
        (
            peer("{\"tls\":false,\"dns_sans\":[\"a\"]}"),
            "not authenticated has no names",
        ),
        (
            metadata("{\":path\":[\"/s/m\"]}"),
            "\":path\" is no key that metadata can have",
        ),
        (
            metadata("{\"k\":[\"a\\nb\"]}"),
            "is no value that metadata can have",
        ),
        (
            metadata("{\"k\":[\"a\"],\"K\":[\"b\"]}"),
            "the key \"K\" is there twice",
        ),
        (metadata("{\"k\":\"a\"}"), "invalid type: string"),
        (metadata("[]"), "invalid type: sequence"),
        (deep, "invalid type: sequence"),
    ] {
        sandbox.write("c.json", format!("{{\"cases\":[{cases}]}}"));
        let run = sandbox.run(&["policy", "test", "--policy", "p.json", "c.json"]);
        assert_eq!((run.code, &*run.out), (64, ""), "{cases:.200}: {}", run.err);
        assert!(run.err.starts_with("error: c.json: "), "{}", run.err);
        assert!(run.err.contains(why), "{why}: {}", run.err);
        assert_eq!(
            run.err.matches(char::is_control).count(),
            1,
            "{:?}",
            run.err
        );
    }
    for (text, why) in [
        ("", "EOF"),
        ("[]", "c.json: "),
        ("{\"cases\":[]} x", "trailing characters"),
        ("\u{feff}{}", "expected value"),
    ] {
        sandbox.write("c.json", text);
        sandbox.refuse(&["policy", "test", "--policy", "p.json", "c.json"], why);
    }
    let keys: Vec<String> = (0..40_000).map(|at| format!("\"k{at}\":[\"v\"]")).collect();
    sandbox.write(
        "c.json",
        format!(
            "{{\"cases\":[{}]}}",
            metadata(&format!("{{{}}}", keys.join(",")))
        ),
    );
    sandbox.refuse(
        &["policy", "test", "--policy", "p.json", "c.json"],
        "more metadata than a call can have",
    );
}

#[test]
fn an_explanation_tells_the_rule_the_name_and_why_the_others_do_not_match() {
    let sandbox = sandbox();
    let peer = r#"{"uri_sans":["spiffe://a.test/trainee"],"dns_sans":["billing.a.test"]}"#;
    let command = [
        "policy",
        "explain",
        "--policy",
        "p.json",
        "--peer",
        peer,
        "--method",
        GET,
        "--metadata",
        "Mode=test",
    ];
    assert_eq!(
        sandbox.succeed(&command),
        "allow /shop.v1.Shop/Get: by the allow rule \"get\", for \"spiffe://a.test/trainee\"\n  \
           known by   URI SAN \"spiffe://a.test/trainee\"\n  \
           not by     \"billing.a.test\": only names of the first kind count (URI, then DNS, then subject; gRFC A41)\n  \
           line 4     deny  rule \"no-trainees\" wants other values of the header mode\n  \
           line 8     allow rule \"get\" matches \"spiffe://a.test/trainee\"\n"
    );
    let explained = sandbox.json(&command);
    let result = &explained["results"][0];
    assert_eq!(
        (
            &result["decision"],
            &result["matched_rule"],
            &result["principal"]
        ),
        (
            &json!("allow"),
            &json!("get"),
            &json!("spiffe://a.test/trainee")
        )
    );
    assert_eq!(result["rules"][0]["matches"], false);
    // A denial is explained as well, and is no failure of the tool.
    let nobody = r#"{"authenticated":false}"#;
    let denied = sandbox.succeed(&[
        "policy", "explain", "--policy", "p.json", "--peer", nobody, "--method", GET,
    ]);
    assert!(
        denied.starts_with("deny /shop.v1.Shop/Get: because no rule matches\n"),
        "{denied}"
    );
    assert!(
        denied.contains("allow rule \"get\" is for other principals"),
        "{denied}"
    );
}

#[test]
fn a_certificate_is_explained_as_the_server_would_take_it() {
    let sandbox = Sandbox::with_pki();
    sandbox.write(
        "p.json",
        POLICY
            .replace("a.test", "acme.test")
            .replace("CN=old,O=A", "CN=mainframe,OU=batch,O=Acme,C=US"),
    );
    let explain = |cert: &str| {
        sandbox.json(&[
            "policy", "explain", "--policy", "p.json", "--cert", cert, "--method", GET,
        ])["results"][0]
            .clone()
    };
    for (cert, kind, principal) in [
        (
            "certs/orders/tls.crt",
            "URI SAN",
            "spiffe://acme.test/orders",
        ),
        ("certs/billing/tls.crt", "DNS SAN", "billing.acme.test"),
        (
            "certs/mainframe/tls.crt",
            "subject",
            "CN=mainframe,OU=batch,O=Acme,C=US",
        ),
    ] {
        let explained = explain(cert);
        assert_eq!(
            (
                &explained["decision"],
                &explained["principal"],
                &explained["identity"]["kind"]
            ),
            (&json!("allow"), &json!(principal), &json!(kind))
        );
    }
    let command = |cert| {
        [
            "policy", "explain", "--policy", "p.json", "--method", GET, "--cert", cert,
        ]
    };
    sandbox.refuse(
        &command("certs/ca/root.crt"),
        "certs/ca/root.crt is not accepted from a caller: LEAF_IS_CA: ",
    );
    sandbox.refuse(&command("certs/orders/tls.key"), "holds no certificate");
    sandbox.refuse(&command("missing"), "cannot read missing");
}
