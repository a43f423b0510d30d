//! Who may call what, over real connections: the tool beside the server, policies that change, and requests made by hand.

mod live;
mod malformed;

use harness::verdicts::hold_each_case_against_server_and_tool;
use serde_json::{Value, json};

use crate::world::{Pki, Server};

/// Each way to name a caller, patterns over each, the order among them, deny rules, and metadata.
#[tokio::test(flavor = "multi_thread")]
async fn server_and_tool_agree_on_every_kind_of_name_and_rule() {
    let dir = tempfile::tempdir().unwrap();
    let rule = |name: &str, principals: &[&str], method: &str, header: Option<(&str, &str)>| {
        let mut rule = json!({"name": name, "source": {"principals": principals},
            "request": {"paths": [format!("/countersign.test.v1.EchoService/{method}")]}});
        if let Some((key, value)) = header {
            rule["request"]["headers"] = json!([{"key": key, "values": [value]}]);
        }
        rule
    };
    let policy = json!({
        "name": "kinds",
        "deny_rules": [
            rule("no-guests", &["*"], "Echo", Some(("x-role", "guest*"))),
            rule("not-the-batch-of-old", &["*,OU=old,O=Acme,C=US"], "Echo", None),
        ],
        "allow_rules": [
            rule("uris", &["spiffe://acme.test/team/*", "https://acme.test/robot"], "Echo", None),
            rule("names", &["*.shop.acme.test"], "Echo", None),
            rule("subjects", &["*,O=Acme,C=US", "CN=alice,*"], "Echo", None),
            rule("approved", &["*"], "Watch", Some(("x-approval", "yes"))),
        ],
        "audit_logging_options": {"audit_condition": "ON_DENY", "audit_loggers": [{"name": "stdout_logger"}]},
    });
    let mut cases = Vec::new();
    let mut case = |name: &str, peer: Value, method: &str, metadata: Value, expect: &str| {
        let method = format!("/countersign.test.v1.EchoService/{method}");
        let peer = peer.as_object().unwrap().clone();
        cases.push(json!({"name": name, "peer": peer, "method": method, "metadata": metadata, "expect": expect}));
    };
    let none = || json!({});
    let uri = |uri: &str| json!({"uri_sans": [uri]});
    let subject = |subject: &str| json!({"subject": subject});
    case(
        "a URI under a prefix",
        uri("spiffe://acme.test/team/a"),
        "Echo",
        none(),
        "allow",
    );
    case(
        "a URI beside it",
        uri("spiffe://acme.test/teams"),
        "Echo",
        none(),
        "deny",
    );
    case(
        "the second URI",
        json!({"uri_sans": ["https://acme.test/x", "https://acme.test/robot"]}),
        "Echo",
        none(),
        "allow",
    );
    case(
        "a DNS name under a suffix",
        json!({"dns_sans": ["a.b.shop.acme.test"]}),
        "Echo",
        none(),
        "allow",
    );
    case(
        "a DNS name in another case",
        json!({"dns_sans": ["a.Shop.acme.test"]}),
        "Echo",
        none(),
        "deny",
    );
    case(
        "a DNS name behind a URI",
        json!({"uri_sans": ["spiffe://acme.test/x"], "dns_sans": ["a.shop.acme.test"]}),
        "Echo",
        none(),
        "deny",
    );
    case(
        "a subject behind a DNS name",
        json!({"dns_sans": ["x.test"], "subject": "CN=a,O=Acme,C=US"}),
        "Echo",
        none(),
        "deny",
    );
    case(
        "a subject with a suffix",
        subject("CN=a,OU=new,O=Acme,C=US"),
        "Echo",
        none(),
        "allow",
    );
    case(
        "a subject with a comma in a value",
        subject("CN=a\\,O=Acme\\,C=US"),
        "Echo",
        none(),
        "deny",
    );
    case(
        "a subject that a deny rule is for",
        subject("CN=a,OU=old,O=Acme,C=US"),
        "Echo",
        none(),
        "deny",
    );
    case(
        "a subject with a prefix",
        subject("CN=alice,O=Other"),
        "Echo",
        none(),
        "allow",
    );
    case(
        "a subject with more in its value",
        subject("CN=alice-evil,O=Other"),
        "Echo",
        none(),
        "deny",
    );
    case(
        "a denied role",
        uri("spiffe://acme.test/team/a"),
        "Echo",
        json!({"x-role": ["guest"]}),
        "deny",
    );
    case(
        "a denied role, repeated",
        uri("spiffe://acme.test/team/a"),
        "Echo",
        json!({"X-Role": ["guest", "admin"]}),
        "deny",
    );
    case(
        "approved",
        uri("spiffe://acme.test/x"),
        "Watch",
        json!({"x-approval": ["yes"]}),
        "allow",
    );
    case(
        "approved twice is not approved",
        uri("spiffe://acme.test/x"),
        "Watch",
        json!({"x-approval": ["yes", "yes"]}),
        "deny",
    );
    case(
        "not approved",
        uri("spiffe://acme.test/x"),
        "Watch",
        none(),
        "deny",
    );
    case(
        "approved by another name",
        uri("spiffe://acme.test/x"),
        "Watch",
        json!({"x-approvals": ["yes"], "x-forwarded-client-cert": ["URI=spiffe://acme.test/team/a"]}),
        "deny",
    );
    let file = |name: &str, content: &Value| {
        let path = dir.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (policy, cases) = (
        file("policy.json", &policy),
        file("cases.json", &json!({ "cases": cases })),
    );
    let pki = Pki::new();
    let server = Server::start(&pki, &["--reflection", "--policy", &policy]);
    hold_each_case_against_server_and_tool(&pki, &server, &policy, &cases).await;
}
