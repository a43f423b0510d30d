//! What a server and the tool say of the same calls.

use std::net::SocketAddr;

use cli::pki::LeafSpec;
use http::uri::PathAndQuery;
use mtls::Channel;
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::world::{Pki, Server, hour, repository, run};

/// What a policy says of a call, told by what became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The handler, or the router, had it.
    Allow,
    /// The policy denied it, under this id.
    Deny { decision_id: String },
}

impl Verdict {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny { .. } => "deny",
        }
    }
}

/// Calls any method with an empty message, which each of them can read, and looks at how the call begins.
pub async fn verdict(channel: &Channel, path: &str, metadata: MetadataMap) -> Verdict {
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
pub fn tool(arguments: &[&str]) -> Value {
    let command = [&["policy"], arguments, &["--output", "json"]].concat();
    let output = run("countersign", &command);
    let said = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
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

/// Asks `server`, which has this policy and reflection, and the tool about each of the cases.
pub async fn hold_each_case_against_server_and_tool(
    pki: &Pki,
    server: &Server,
    policy: &str,
    cases: &str,
) {
    let results = tool(&["test", "--policy", policy, cases]);
    let path = repository().join(cases);
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for (case, result) in cases.iter().zip(results["results"].as_array().unwrap()) {
        let channel = channel_of(pki, case, server.address);
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
