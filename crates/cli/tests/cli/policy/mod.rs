//! `countersign policy`: each command on what is right, and on anything else.

mod cases;
mod check;
mod docs;
mod tables;

use serde_json::{Value, json};

use crate::tool::Sandbox;

/// Two rules, of which one looks at metadata.
pub(super) const POLICY: &str = r#"{
  "name": "shop",
  "deny_rules": [
    {"name": "no-trainees", "source": {"principals": ["spiffe://a.test/trainee"]},
     "request": {"headers": [{"key": "mode", "values": ["live"]}]}}
  ],
  "allow_rules": [
    {"name": "get", "source": {"principals": ["spiffe://a.test/*", "billing.a.test", "CN=old,O=A"]},
     "request": {"paths": ["/shop.v1.Shop/Get"]}}
  ]
}"#;

pub(super) const GET: &str = "/shop.v1.Shop/Get";

pub(super) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("p.json", POLICY);
    sandbox
}

pub(super) fn case(
    name: &str,
    peer: &Value,
    method: &str,
    metadata: &Value,
    expect: &str,
) -> Value {
    json!({"name": name, "peer": peer, "method": method, "metadata": metadata, "expect": expect})
}

/// `service Shop { rpc Get; rpc Put; }` of the package `shop.v1`, encoded by hand.
pub(super) fn descriptor_set() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let method = |name: &str| field(2, &field(1, name.as_bytes()));
    let service = [field(1, b"Shop"), method("Get"), method("Put")].concat();
    field(1, &[field(2, b"shop.v1"), field(6, &service)].concat())
}
