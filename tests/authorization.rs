//! Who may call what, over real connections: the table and the tool beside the server.

use std::collections::{BTreeMap, BTreeSet};

use authz::{Api, Policy};
use harness::verdicts::{hold_each_case_against_server_and_tool, tool, verdict};
use harness::world::repository;
use serde_json::Value;
use tonic::metadata::MetadataMap;

use crate::world::{IDENTITIES, pki, start};

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
    let pki = pki();
    let server = start(&pki, &["--reflection"]);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_cases_that_come_with_the_policy_hold_in_the_tool_and_in_the_server() {
    let pki = pki();
    let server = start(&pki, &["--reflection"]);
    hold_each_case_against_server_and_tool(&pki, &server, POLICY, CASES).await;
}

#[test]
fn the_tool_of_this_repository_checks_a_policy_against_the_contract_of_the_pair() {
    let checked = tool(&["check", POLICY, "--strict"]);
    assert_eq!(
        (&checked["api"], &checked["ok"]),
        (&"builtin".into(), &true.into())
    );
    let services = checked["services"].to_string();
    assert!(
        services.contains("inventory.v1.InventoryService"),
        "{services}"
    );
}
