//! The shared vectors of gRFC A43: what the other implementations decide, where they agree, and what we do where not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign_authz::{Caller, Policy};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

#[test]
fn every_vector_holds() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("a43.json")).unwrap();
    let failed: Vec<String> = vectors
        .iter()
        .filter_map(|vector| failure(vector).err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} fail:\n{}",
        failed.len(),
        vectors.len(),
        failed.join("\n")
    );
    assert_eq!(vectors.len(), 126, "a vector was lost");
}

fn failure(vector: &Value) -> Result<(), String> {
    let name = vector["name"].as_str().unwrap();
    let outcome = outcome(vector);
    match outcome == expected(vector) {
        true => Ok(()),
        false => Err(format!(
            "{name}: {outcome}, expected {}: {}",
            expected(vector),
            vector["note"]
        )),
    }
}

/// The other implementations' outcome, but where we are stricter on purpose.
fn expected(vector: &Value) -> &str {
    match vector["name"].as_str().unwrap() {
        "pattern/star_both_ends" | "valid/null_principals" => "invalid_policy",
        _ => vector["expect"].as_str().unwrap(),
    }
}

fn outcome(vector: &Value) -> String {
    let text = match vector["policy_text"].as_str() {
        Some(text) => text.to_owned(),
        None => vector["policy"].to_string(),
    };
    let Ok(policy) = Policy::parse(text.as_bytes()) else {
        return "invalid_policy".into();
    };
    let (caller, headers) = (caller(&vector["peer"]), headers(&vector["metadata"]));
    policy
        .decide(&caller, vector["method"].as_str().unwrap(), &headers)
        .verdict()
        .as_str()
        .into()
}

fn caller(peer: &Value) -> Caller {
    let strings = |field: &str| {
        peer[field]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    match (
        peer["tls"].as_bool().unwrap(),
        peer["authenticated"].as_bool().unwrap(),
    ) {
        (false, _) => Caller::Plaintext,
        (true, false) => Caller::Anonymous,
        (true, true) => Caller::Authenticated {
            uri_sans: strings("uri_sans"),
            dns_sans: strings("dns_sans"),
            subject: peer["subject"].as_str().unwrap().to_owned(),
        },
    }
}

fn headers(metadata: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (key, values) in metadata.as_object().unwrap() {
        for value in values.as_array().unwrap() {
            headers.append(
                HeaderName::try_from(key.to_ascii_lowercase()).unwrap(),
                HeaderValue::try_from(value.as_str().unwrap()).unwrap(),
            );
        }
    }
    headers
}
