//! `policy matrix` and `policy diff`.

use serde_json::{Value, json};

use super::{GET, POLICY, descriptor_set, sandbox};
use crate::tool::Sandbox;

#[test]
fn a_matrix_shows_every_caller_by_every_rpc() {
    let sandbox = sandbox();
    sandbox.write("api.binpb", descriptor_set());
    let matrix = [
        "policy",
        "matrix",
        "--policy",
        "p.json",
        "--api",
        "api.binpb",
    ];
    assert_eq!(
        sandbox.succeed(&matrix),
        "                   spiffe://a.test/trainee  spiffe://a.test/*  billing.a.test  CN=old,O=A\n\
         /shop.v1.Shop/Get  allow                    allow              allow           allow\n\
         /shop.v1.Shop/Put  deny                     deny               deny            deny\n\
         note: some rules look at metadata, and these calls have none; see --metadata\n"
    );
    let live = sandbox.json(&[&matrix[..], &["--metadata", "mode=live"]].concat());
    assert_eq!(
        live["results"][0],
        json!({"identity": "spiffe://a.test/trainee", "method": GET, "decision": "deny", "matched_rule": "no-trainees",
               "principal": "spiffe://a.test/trainee", "refusal": ""})
    );
    sandbox.write(
        "peers.json",
        r#"{"peers":[{"name":"e\u001bve","peer":{"dns_sans":["eve"]}},{"name":"nobody","peer":{"authenticated":false}}]}"#,
    );
    let peers = sandbox.succeed(&[
        "policy",
        "matrix",
        "--policy",
        "p.json",
        "--api",
        "none",
        "--peers",
        "peers.json",
    ]);
    assert_eq!(
        peers,
        "                   e\\u{1b}ve  nobody\n\
         /shop.v1.Shop/Get  deny       deny\n\
         note: some rules look at metadata, and these calls have none; see --metadata\n\
         note: only the paths that the policy names are shown; see --api\n"
    );
}

#[test]
fn a_matrix_of_certificates_says_whose_no_policy_ever_sees() {
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&[
        "pki",
        "issue",
        "web",
        "--dns",
        "web.acme.test",
        "--usage",
        "server",
    ]);
    let policy = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/library/policy.json"
    );
    let api = concat!(env!("CARGO_MANIFEST_DIR"), "/../test-contract/proto");
    let matrix = ["policy", "matrix", "--policy", policy, "--api", api];
    let shown = sandbox.json(&matrix);
    // The policy of a service that `new` made is found by itself.
    sandbox.write("policy.json", std::fs::read(policy).unwrap());
    assert_eq!(sandbox.json(&["policy", "matrix", "--api", api]), shown);
    let decision = |identity: &str, method: &str| {
        let results = shown["results"].as_array().unwrap().iter();
        let of = |it: &&Value| {
            it["identity"] == identity && it["method"].as_str().unwrap().ends_with(method)
        };
        results
            .filter(of)
            .map(|it| it["decision"].as_str().unwrap().to_owned())
            .next()
            .unwrap()
    };
    assert_eq!(decision("orders", "/Chat"), "allow");
    assert_eq!(decision("catalog", "/Chat"), "deny");
    assert_eq!(decision("billing", "/Echo"), "allow");
    assert_eq!(decision("mainframe", "/Echo"), "allow");
    assert_eq!(decision("marketing", "/Echo"), "deny");
    assert_eq!(decision("web", "/Echo"), "refused");
    let text = sandbox.succeed(&[&matrix[..], &["--cert", "certs/web/tls.crt"]].concat());
    assert!(text.contains("note: the certificate of certs/web/tls.crt is not accepted from a caller: WRONG_PURPOSE"), "{text}");
}

#[test]
fn a_difference_is_exactly_the_pairs_that_flip() {
    let sandbox = sandbox();
    sandbox.write("api.binpb", descriptor_set());
    sandbox.write(
        "next.json",
        POLICY
            .replace(
                "spiffe://a.test/*\", \"billing.a.test",
                "spiffe://a.test/orders",
            )
            .replace("Shop/Get", "Shop/*"),
    );
    let diff =
        |old: &str, new: &str| sandbox.run(&["policy", "diff", old, new, "--api", "api.binpb"]);
    assert_eq!(
        diff("p.json", "p.json").out.lines().next().unwrap(),
        "0 of 8 pairs of caller and RPC differ"
    );
    assert_eq!(diff("p.json", "p.json").code, 0);
    let changed = diff("p.json", "next.json");
    assert_eq!(changed.code, 1);
    assert_eq!(
        changed.out,
        "spiffe://a.test/trainee /shop.v1.Shop/Get: allow (\"get\") -> deny (no rule)\n\
         spiffe://a.test/* /shop.v1.Shop/Get: allow (\"get\") -> deny (no rule)\n\
         billing.a.test /shop.v1.Shop/Get: allow (\"get\") -> deny (no rule)\n\
         CN=old,O=A /shop.v1.Shop/Put: deny (no rule) -> allow (\"get\")\n\
         spiffe://a.test/orders /shop.v1.Shop/Put: deny (no rule) -> allow (\"get\")\n\
         5 of 10 pairs of caller and RPC differ\n\
         note: some rules look at metadata, and these calls have none; see --metadata\n"
    );
}

#[test]
fn a_pattern_for_subjects_stands_for_somebody_whom_it_means() {
    let sandbox = sandbox();
    sandbox.write("api.binpb", descriptor_set());
    let policy = |principals: &str| {
        format!(
            r#"{{"name":"p","allow_rules":[{{"name":"a","source":{{"principals":["CN=x"{principals}]}},"request":{{"paths":["/shop.v1.Shop/Get"]}}}}]}}"#
        )
    };
    sandbox.write("narrow.json", policy(""));
    for pattern in ["*O=Acme", "*,O=Acme", "CN=alice*", "CN=alice,*"] {
        sandbox.write("wide.json", policy(&format!(r#","{pattern}""#)));
        let arguments = [
            "policy",
            "diff",
            "narrow.json",
            "wide.json",
            "--api",
            "api.binpb",
        ];
        let widened = sandbox.run(&arguments);
        assert_eq!(widened.code, 1, "{}", widened.out);
        assert!(
            widened.out.contains(&format!(
                "{pattern} /shop.v1.Shop/Get: deny (no rule) -> allow"
            )),
            "{}",
            widened.out
        );
    }
}
