//! The bytes choose a valid policy and some RPCs: the engine decides as the model does, and explains what it decided.
#![no_main]

#[path = "../../crates/authz/tests/generate/mod.rs"]
mod generate;
#[path = "../../crates/authz/tests/model/mod.rs"]
mod model;

use countersign_authz::Policy;
use generate::Pick;
use libfuzzer_sys::fuzz_target;

/// Chooses by the next byte; when they are used up, the first of everything.
struct Bytes<'a>(&'a [u8]);

impl Pick for Bytes<'_> {
    fn pick(&mut self, below: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % below
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let json = generate::policy(&mut bytes);
    let policy = Policy::parse(json.to_string().as_bytes()).unwrap();
    for _ in 0..4 {
        let (caller, path) = (generate::caller(&mut bytes), generate::path(&mut bytes));
        let headers = generate::headers(&mut bytes);
        let decision = policy.decide(&caller, path, &headers);
        assert_eq!(decision.is_allowed(), model::allows(&json, &caller, path, &headers));
        assert_eq!(policy.explain(&caller, path, &headers).decision, decision);
    }
});
