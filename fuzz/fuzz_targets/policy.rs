//! The bytes are the text of a policy: it is refused, or decided as the model decides the same JSON. Never a panic.
#![no_main]

#[path = "../../crates/authz/tests/model/mod.rs"]
mod model;

use countersign_authz::{Caller, Policy};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(invalid) => return assert!(!invalid.to_string().chars().any(char::is_control)),
    };
    let json = serde_json::from_slice(text).unwrap();
    for finding in countersign_authz::lint(&policy) {
        assert!(!finding.to_string().chars().any(char::is_control), "{finding:?}");
    }
    let name = |name: &str| Caller::Authenticated {
        uri_sans: vec![name.into()],
        dns_sans: vec![],
        subject: String::new(),
    };
    let subject = |subject: &str| Caller::Authenticated {
        uri_sans: vec![],
        dns_sans: vec![],
        subject: subject.into(),
    };
    let mut headers = HeaderMap::new();
    headers.insert("k", "v".parse().unwrap());
    headers.append("k", "w".parse().unwrap());
    for caller in [Caller::Plaintext, Caller::Anonymous, name("spiffe://t/a"), subject("CN=x\\,O=A,O=B")] {
        for path in ["/a.S/M", "/a.S/N", "/b.S/M", "a.S/M"] {
            let allowed = policy.decide(&caller, path, &headers).is_allowed();
            assert_eq!(allowed, model::allows(&json, &caller, path, &headers), "{caller:?} {path}");
        }
    }
});
