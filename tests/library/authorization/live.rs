//! A policy that changes while the server runs, and a shadow policy.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use test_contract::v1::{EchoRequest, WatchRequest};
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic_types::StatusExt;

use crate::world::{Pki, Server, repository};
use harness::verdicts::{Verdict, verdict};

const POLICY: &str = "tests/library/policy.json";
const GET: &str = "/countersign.test.v1.EchoService/Echo";
const WATCH: &str = "/countersign.test.v1.EchoService/Watch";

/// The shipped policy, without `principal` in the rule `rule`.
fn without(rule: &str, principal: &str) -> Value {
    let text = fs::read_to_string(repository().join(POLICY)).unwrap();
    let mut policy: Value = serde_json::from_str(&text).unwrap();
    let rules = policy["allow_rules"].as_array_mut().unwrap();
    let rule = rules.iter_mut().find(|it| it["name"] == rule).unwrap();
    let principals = rule["source"]["principals"].as_array_mut().unwrap();
    let before = principals.len();
    principals.retain(|it| it != principal);
    assert_eq!(principals.len(), before - 1);
    policy
}

struct Files {
    pki: Pki,
    policy: PathBuf,
}

impl Files {
    fn new() -> Self {
        let pki = Pki::new();
        let policy = pki.dir.path().join("policy.json");
        fs::copy(repository().join(POLICY), &policy).unwrap();
        Self { pki, policy }
    }

    fn put(&self, text: impl AsRef<[u8]>) {
        let next = self.policy.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, &self.policy).unwrap();
    }

    fn path(&self) -> &str {
        self.policy.to_str().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_reaches_the_next_call_and_those_that_run() {
    let files = Files::new();
    let server = Server::start(&files.pki, &["--policy", files.path()]);
    let channel = files.pki.channel("auditor", server.address);
    let get = || verdict(&channel, GET, MetadataMap::new());
    assert_eq!(get().await, Verdict::Allow);
    let watch = |name| {
        let mut client = files.pki.client(name, server.address);
        async move {
            let opened = client.watch(WatchRequest::default()).await;
            let mut texts = opened.unwrap().into_inner();
            texts.message().await.unwrap().unwrap();
            texts
        }
    };
    let (mut auditor, mut orders) = (watch("auditor").await, watch("orders").await);

    files.put(without("watch", "spiffe://acme.test/auditor").to_string());
    let ended = auditor.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert_eq!(
        ended.get_details_error_info().unwrap().reason,
        "POLICY_CHANGED"
    );
    // The audit log has it as a denial.
    let decision = ended.get_details_error_info().unwrap().metadata["decision_id"].clone();
    let event = server
        .stdout
        .wait(|line| line["grpc_audit_log"]["decision_id"] == decision);
    assert_eq!(event["grpc_audit_log"]["authorized"], false, "{event}");
    // From the moment at which the running call ended, no new one begins; the same connection goes on.
    assert_eq!(
        verdict(&channel, WATCH, MetadataMap::new()).await.word(),
        "deny"
    );
    assert_eq!(get().await, Verdict::Allow);
    let line = server.log.wait(|line| line["message"] == "policy in force");
    assert_eq!(line["generation"], 2);
    // The stream of another caller is as it was.
    let next = tokio::time::timeout(std::time::Duration::from_millis(50), orders.message()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_used_leaves_the_last_good_one_in_force() {
    let files = Files::new();
    let server = Server::start(&files.pki, &["--policy", files.path()]);
    let channel = files.pki.channel("orders", server.address);
    let good = fs::read_to_string(&files.policy).unwrap();
    let typo = good.replace("EchoService/Watch", "EchoService/Wach");
    let twice = good.replacen("\"name\"", "\"name\": \"x\", \"name\"", 1);
    for (text, why) in [
        (&good[..good.len() / 2], "not JSON"),
        ("", "not JSON"),
        (&twice, "the field \"name\" is repeated"),
        (
            &typo,
            "did you mean /countersign.test.v1.EchoService/Watch?",
        ),
    ] {
        files.put(text);
        let line = server.log.wait(|line| {
            line["message"] == "new policy refused; the last good one stays in force"
                && line["reason"].as_str().unwrap().contains(why)
        });
        assert_eq!(line["level"], "ERROR");
        assert!(
            line["reason"].as_str().unwrap().contains(files.path()),
            "{line}"
        );
        assert_eq!(
            verdict(&channel, WATCH, MetadataMap::new()).await,
            Verdict::Allow,
            "{why}"
        );
    }
    fs::remove_file(&files.policy).unwrap();
    server.log.wait(|line| {
        line["reason"]
            .as_str()
            .is_some_and(|it| it.contains("cannot read the policy"))
    });
    assert_eq!(
        verdict(&channel, WATCH, MetadataMap::new()).await,
        Verdict::Allow
    );
    assert_eq!(
        server
            .log
            .count(|line| line["message"] == "policy in force"),
        0
    );

    // What comes next is taken as ever.
    files.put(without("watch", "spiffe://acme.test/orders").to_string());
    server.log.wait(|line| line["message"] == "policy in force");
    let denied = verdict(&channel, WATCH, MetadataMap::new()).await;
    assert_eq!(denied.word(), "deny");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_used_is_no_policy_to_start_with() {
    let files = Files::new();
    let check = || {
        let tls_dir = files.pki.dir("echo");
        let arguments = [
            "--policy",
            files.path(),
            "--tls-dir",
            tls_dir.to_str().unwrap(),
            "check",
        ];
        let output = crate::world::run("echo-server", arguments);
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(check().0, Some(0));
    let good = fs::read_to_string(&files.policy).unwrap();
    for (text, why) in [
        (
            good.replace("allow_rules", "allow_rule"),
            "line 3: /allow_rule: unknown field \"allow_rule\"",
        ),
        (
            good.replace("EchoService/Echo\"", "EchoService/Echos\""),
            "names no RPC of this API; did you mean",
        ),
        (" ".repeat((16 << 20) + 1), "larger than 16777216 bytes"),
    ] {
        files.put(text);
        let (code, said) = check();
        assert_eq!(code, Some(64), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains(why) && last.contains(files.path()), "{said}");
    }
    fs::remove_file(&files.policy).unwrap();
    fs::create_dir(&files.policy).unwrap();
    assert!(check().1.contains("not a regular file"), "{}", check().1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_policy_changes_nothing_and_reports_what_it_would() {
    let files = Files::new();
    let mut shadow = without("echo", "spiffe://acme.test/auditor");
    shadow["name"] = json!("next");
    shadow["allow_rules"][0]["source"]["principals"]
        .as_array_mut()
        .unwrap()
        .push(json!("spiffe://acme.test/marketing"));
    let file = files.pki.dir.path().join("shadow.json");
    fs::write(&file, shadow.to_string()).unwrap();
    let server = Server::start(
        &files.pki,
        &[
            "--policy",
            files.path(),
            "--shadow-policy",
            file.to_str().unwrap(),
        ],
    );
    for (name, expected) in [
        ("auditor", Code::NotFound),
        ("marketing", Code::PermissionDenied),
        ("orders", Code::NotFound),
    ] {
        let request = EchoRequest {
            text: "NOT_FOUND".to_owned(),
        };
        let answer = files.pki.client(name, server.address).echo(request).await;
        assert_eq!(answer.unwrap_err().code(), expected, "{name}");
    }
    let report = |name: &str| {
        let principal = format!("spiffe://acme.test/{name}");
        server.log.wait(|line| {
            line["message"] == "the shadow policy decides differently"
                && line["principal"] == principal
        })
    };
    let (auditor, marketing) = (report("auditor"), report("marketing"));
    assert_eq!(
        (
            &auditor["verdict"],
            &auditor["shadow_verdict"],
            &auditor["rule"]
        ),
        (&json!("allow"), &json!("deny"), &json!("echo"))
    );
    assert_eq!(
        (
            &marketing["verdict"],
            &marketing["shadow_verdict"],
            &marketing["shadow_rule"]
        ),
        (&json!("deny"), &json!("allow"), &json!("echo"))
    );
    assert_eq!(
        server
            .log
            .count(|line| line["message"] == "the shadow policy decides differently"),
        2
    );
    let (status, page) = crate::scrape::get(server.admin, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for difference in ["allow", "deny"] {
        let sample = format!("authz_shadow_differences_total{{would=\"{difference}\"}} 1\n");
        assert!(page.contains(&sample), "{page}");
    }
}
