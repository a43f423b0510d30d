//! Who may call what, over real connections: the table, the tool beside the server, and requests made by hand.

mod live;
mod malformed;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use authz::{Api, Policy};
use cli::pki::LeafSpec;
use http::uri::PathAndQuery;
use mtls::Channel;
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::world::{IDENTITIES, Pki, Server, hour, repository, run};

const POLICY: &str = "crates/server/policy.json";
const CASES: &str = "crates/server/policy-cases.json";

/// Who may call what, by the path of each RPC: the cases that allow a call, each named "IDENTITY does this". Each RPC that
/// is served has such a case, and who has none is denied.
fn rights() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(repository().join(CASES)).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut rights = BTreeMap::<String, BTreeSet<String>>::new();
    for case in file["cases"].as_array().unwrap() {
        if case["expect"] != "allow" {
            continue;
        }
        let name = case["name"].as_str().unwrap();
        let identity = name.split(' ').next().unwrap();
        assert!(
            IDENTITIES.contains(&identity),
            "{name:?} begins with no identity"
        );
        assert!(case["peer"].to_string().contains(identity), "{case}");
        let path = case["method"].as_str().unwrap().to_owned();
        let is_new = rights.entry(path).or_default().insert(identity.to_owned());
        assert!(is_new, "two cases say {name:?}");
    }
    rights
}

/// What a policy says of a call, told by what became of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The handler, or the router, had it.
    Allow,
    /// The policy denied it, under this id.
    Deny { decision_id: String },
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny { .. } => "deny",
        }
    }
}

/// Calls any method with an empty message, which each of them can read, and looks at how the call begins.
async fn verdict(channel: &Channel, path: &str, metadata: MetadataMap) -> Verdict {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(path).unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let request = tonic::Request::from_parts(metadata, http::Extensions::new(), ());
    match grpc.server_streaming(request, path, codec).await {
        Err(status) if status.code() == Code::PermissionDenied => denied(&status),
        // The server is asked for what it serves, so that every method is there.
        Err(status) if status.code() == Code::Unimplemented => panic!("{status:?}"),
        Ok(_) | Err(_) => Verdict::Allow,
    }
}

fn denied(status: &Status) -> Verdict {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain, status.message()),
        (
            "POLICY_DENIED",
            "authz.countersign",
            "the policy does not allow this call"
        )
    );
    Verdict::Deny {
        decision_id: info.metadata["decision_id"].clone(),
    }
}

fn metadata(of: &Value) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (key, values) in of.as_object().into_iter().flatten() {
        for value in values.as_array().unwrap() {
            let key: MetadataKey<_> = key.to_lowercase().parse().unwrap();
            metadata.append(key, value.as_str().unwrap().parse().unwrap());
        }
    }
    metadata
}

/// What a `countersign policy` command says in JSON.
fn tool(arguments: &[&str]) -> Value {
    let command = [&["policy"], arguments, &["--output", "json"]].concat();
    let output = run("countersign", &command);
    let said = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn api() -> Api {
    countersign::server::api(proto::FILE_DESCRIPTOR_SET).unwrap()
}

#[test]
fn every_rpc_has_its_rule_and_every_rule_its_rpc() {
    let text = std::fs::read(repository().join(POLICY)).unwrap();
    let found = authz::check(&Policy::parse(&text).unwrap(), &api());
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{POLICY}: {}", found.join("\n"));
}

#[test]
fn every_rpc_that_is_served_has_a_case_that_allows_it() {
    let api = api();
    let served: BTreeSet<&str> = api.paths().collect();
    let rights = rights();
    let rows: BTreeSet<&str> = rights.keys().map(String::as_str).collect();
    let missing: Vec<_> = served.difference(&rows).collect();
    assert!(missing.is_empty(), "say who may call {missing:?}");
    let unknown: Vec<_> = rows.difference(&served).collect();
    assert!(unknown.is_empty(), "nobody serves {unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_identity_may_call_what_the_table_says_and_nothing_else() {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--reflection"]);
    let certs = pki.dir.path().to_str().unwrap();
    let matrix = tool(&["matrix", "--policy", POLICY, "--certs", certs]);
    let cells = matrix["results"].as_array().unwrap();
    let (rights, mut surprises) = (rights(), Vec::new());
    for identity in IDENTITIES.into_iter().chain(["inventory"]) {
        let channel = pki.channel(identity, server.address);
        for (path, allowed) in &rights {
            let expected = match allowed.contains(identity) {
                true => "allow",
                false => "deny",
            };
            let observed = verdict(&channel, path, MetadataMap::new()).await;
            let cell = |cell: &&Value| cell["identity"] == identity && cell["method"] == **path;
            let tool = &cells.iter().find(cell).unwrap()["decision"];
            if observed.word() != expected || tool != expected {
                surprises.push(format!(
                    "{identity} {path}: {observed:?}, {tool} by the tool, {expected} by the cases"
                ));
            }
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// A channel of the caller that a case describes.
fn channel_of(pki: &Pki, case: &Value, address: SocketAddr) -> Channel {
    let name = case["name"].as_str().unwrap();
    let names = |field: &str| -> Vec<String> {
        let names = case["peer"][field].as_array().into_iter().flatten();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let subject = case["peer"]["subject"].as_str().unwrap_or_default();
    let spec = LeafSpec {
        uris: names("uri_sans"),
        dns: names("dns_sans"),
        subject: (!subject.is_empty()).then(|| subject.parse().unwrap()),
        ..LeafSpec::client(hour())
    };
    pki.issue(name, &spec);
    pki.channel(name, address)
}

async fn hold_each_case_against_server_and_tool(policy: &str, cases: &str) {
    let pki = Pki::new();
    let server = Server::start(&pki, &["--reflection", "--policy", policy]);
    let results = tool(&["test", "--policy", policy, cases]);
    let path = repository().join(cases);
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for (case, result) in cases.iter().zip(results["results"].as_array().unwrap()) {
        let channel = channel_of(&pki, case, server.address);
        let method = case["method"].as_str().unwrap();
        let observed = verdict(&channel, method, metadata(&case["metadata"])).await;
        assert_eq!(
            (
                result["name"].clone(),
                result["ok"].clone(),
                json!(observed.word())
            ),
            (case["name"].clone(), json!(true), case["expect"].clone()),
        );
        if let Verdict::Deny { decision_id } = observed {
            // The audit log has the same id, with the rule and the name that the tool tells.
            let event = server
                .stdout
                .wait(|line| line["grpc_audit_log"]["decision_id"] == *decision_id);
            let event = &event["grpc_audit_log"];
            for field in ["matched_rule", "principal"] {
                assert_eq!(event[field], result[field], "{case}");
            }
            assert_eq!(
                (&event["rpc_method"], &event["authorized"]),
                (&case["method"], &json!(false))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cases_that_come_with_the_policy_hold_in_the_tool_and_in_the_server() {
    hold_each_case_against_server_and_tool(POLICY, CASES).await;
}

/// Each way to name a caller, patterns over each, the order among them, deny rules, and metadata.
#[tokio::test(flavor = "multi_thread")]
async fn server_and_tool_agree_on_every_kind_of_name_and_rule() {
    let dir = tempfile::tempdir().unwrap();
    let rule = |name: &str, principals: &[&str], method: &str, header: Option<(&str, &str)>| {
        let mut rule = json!({"name": name, "source": {"principals": principals},
            "request": {"paths": [format!("/inventory.v1.InventoryService/{method}")]}});
        if let Some((key, value)) = header {
            rule["request"]["headers"] = json!([{"key": key, "values": [value]}]);
        }
        rule
    };
    let policy = json!({
        "name": "kinds",
        "deny_rules": [
            rule("no-guests", &["*"], "GetItem", Some(("x-role", "guest*"))),
            rule("not-the-batch-of-old", &["*,OU=old,O=Acme,C=US"], "GetItem", None),
        ],
        "allow_rules": [
            rule("uris", &["spiffe://acme.test/team/*", "https://acme.test/robot"], "GetItem", None),
            rule("names", &["*.shop.acme.test"], "GetItem", None),
            rule("subjects", &["*,O=Acme,C=US", "CN=alice,*"], "GetItem", None),
            rule("approved", &["*"], "WatchStock", Some(("x-approval", "yes"))),
        ],
        "audit_logging_options": {"audit_condition": "ON_DENY", "audit_loggers": [{"name": "stdout_logger"}]},
    });
    let mut cases = Vec::new();
    let mut case = |name: &str, peer: Value, method: &str, metadata: Value, expect: &str| {
        let method = format!("/inventory.v1.InventoryService/{method}");
        let peer = peer.as_object().unwrap().clone();
        cases.push(json!({"name": name, "peer": peer, "method": method, "metadata": metadata, "expect": expect}));
    };
    let none = || json!({});
    let uri = |uri: &str| json!({"uri_sans": [uri]});
    let subject = |subject: &str| json!({"subject": subject});
    case(
        "a URI under a prefix",
        uri("spiffe://acme.test/team/a"),
        "GetItem",
        none(),
        "allow",
    );
    case(
        "a URI beside it",
        uri("spiffe://acme.test/teams"),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "the second URI",
        json!({"uri_sans": ["https://acme.test/x", "https://acme.test/robot"]}),
        "GetItem",
        none(),
        "allow",
    );
    case(
        "a DNS name under a suffix",
        json!({"dns_sans": ["a.b.shop.acme.test"]}),
        "GetItem",
        none(),
        "allow",
    );
    case(
        "a DNS name in another case",
        json!({"dns_sans": ["a.Shop.acme.test"]}),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "a DNS name behind a URI",
        json!({"uri_sans": ["spiffe://acme.test/x"], "dns_sans": ["a.shop.acme.test"]}),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "a subject behind a DNS name",
        json!({"dns_sans": ["x.test"], "subject": "CN=a,O=Acme,C=US"}),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "a subject with a suffix",
        subject("CN=a,OU=new,O=Acme,C=US"),
        "GetItem",
        none(),
        "allow",
    );
    case(
        "a subject with a comma in a value",
        subject("CN=a\\,O=Acme\\,C=US"),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "a subject that a deny rule is for",
        subject("CN=a,OU=old,O=Acme,C=US"),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "a subject with a prefix",
        subject("CN=alice,O=Other"),
        "GetItem",
        none(),
        "allow",
    );
    case(
        "a subject with more in its value",
        subject("CN=alice-evil,O=Other"),
        "GetItem",
        none(),
        "deny",
    );
    case(
        "a denied role",
        uri("spiffe://acme.test/team/a"),
        "GetItem",
        json!({"x-role": ["guest"]}),
        "deny",
    );
    case(
        "a denied role, repeated",
        uri("spiffe://acme.test/team/a"),
        "GetItem",
        json!({"X-Role": ["guest", "admin"]}),
        "deny",
    );
    case(
        "approved",
        uri("spiffe://acme.test/x"),
        "WatchStock",
        json!({"x-approval": ["yes"]}),
        "allow",
    );
    case(
        "approved twice is not approved",
        uri("spiffe://acme.test/x"),
        "WatchStock",
        json!({"x-approval": ["yes", "yes"]}),
        "deny",
    );
    case(
        "not approved",
        uri("spiffe://acme.test/x"),
        "WatchStock",
        none(),
        "deny",
    );
    case(
        "approved by another name",
        uri("spiffe://acme.test/x"),
        "WatchStock",
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
    hold_each_case_against_server_and_tool(&policy, &cases).await;
}
