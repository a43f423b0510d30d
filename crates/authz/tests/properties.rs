//! What holds for every policy: the engine is the model, and the laws of gRFC A43's evaluation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod generate;
mod model;

use countersign_authz::{Caller, Cause, List, Outcome, Policy, Verdict};
use generate::Pick;
use http::HeaderMap;
use serde_json::{Value, json};

/// RPCs per policy.
const RPCS: usize = 20;
const POLICIES: usize = if cfg!(debug_assertions) {
    2_000
} else {
    20_000
};

struct Random(fastrand::Rng);

impl Pick for Random {
    fn pick(&mut self, below: usize) -> usize {
        self.0.usize(..below)
    }
}

struct Rpc {
    caller: Caller,
    path: &'static str,
    headers: HeaderMap,
}

fn compile(policy: &Value) -> Policy {
    Policy::parse(policy.to_string().as_bytes()).unwrap()
}

fn verdict(policy: &Policy, rpc: &Rpc) -> Verdict {
    policy.decide(&rpc.caller, rpc.path, &rpc.headers).verdict()
}

/// Runs `property` for many policies, each with its RPCs; the same ones every time.
fn for_all(seed: u64, mut property: impl FnMut(&mut Random, &Value, &[Rpc])) {
    let mut random = Random(fastrand::Rng::with_seed(seed));
    for _ in 0..POLICIES {
        let policy = generate::policy(&mut random);
        let rpcs: Vec<Rpc> = (0..RPCS)
            .map(|_| Rpc {
                caller: generate::caller(&mut random),
                path: generate::path(&mut random),
                headers: generate::headers(&mut random),
            })
            .collect();
        property(&mut random, &policy, &rpcs);
    }
}

fn explained(policy: &Value, rpc: &Rpc) -> String {
    format!(
        "{policy:#}\n{:?} {} {:?}",
        rpc.caller, rpc.path, rpc.headers
    )
}

#[test]
fn the_engine_is_the_model() {
    let (mut allowed, mut denied) = (0, 0);
    for_all(1, |_, policy, rpcs| {
        let compiled = compile(policy);
        for rpc in rpcs {
            let expected = model::allows(policy, &rpc.caller, rpc.path, &rpc.headers);
            let found = verdict(&compiled, rpc) == Verdict::Allow;
            assert_eq!(found, expected, "{}", explained(policy, rpc));
            *(if found { &mut allowed } else { &mut denied }) += 1;
        }
    });
    // A generator that always asks for the impossible would prove nothing.
    assert!(allowed * 20 > denied, "{allowed} allowed, {denied} denied");
}

#[test]
fn an_explanation_is_the_decision_and_names_the_first_rule_that_matches() {
    for_all(2, |_, policy, rpcs| {
        let compiled = compile(policy);
        for rpc in rpcs {
            let decision = compiled.decide(&rpc.caller, rpc.path, &rpc.headers);
            let explanation = compiled.explain(&rpc.caller, rpc.path, &rpc.headers);
            assert_eq!(explanation.decision, decision);
            let first = explanation
                .rules
                .iter()
                .find(|rule| matches!(rule.outcome, Outcome::Matches { .. }));
            let cause = match first {
                Some(rule) if rule.list == List::Deny => Cause::DenyRule(rule.name),
                Some(rule) => Cause::AllowRule(rule.name),
                None if explanation.rules.is_empty() => Cause::MalformedPath,
                None => Cause::NoRule,
            };
            assert_eq!(decision.cause, cause, "{}", explained(policy, rpc));
            if let Some(Outcome::Matches {
                principal: Some(principal),
            }) = first.map(|rule| rule.outcome)
            {
                assert_eq!(decision.principal, principal);
            }
        }
    });
}

#[test]
fn nothing_is_allowed_without_an_allow_rule_that_matches() {
    for_all(3, |_, policy, rpcs| {
        let mut policy = policy.clone();
        policy["allow_rules"] =
            json!([{"name": "nobody", "source": {"principals": ["spiffe://nobody/here"]}}]);
        let compiled = compile(&policy);
        for rpc in rpcs {
            assert_eq!(
                verdict(&compiled, rpc),
                Verdict::Deny,
                "{}",
                explained(&policy, rpc)
            );
        }
    });
}

#[test]
fn a_deny_rule_never_gives_access_and_one_for_all_takes_all() {
    for_all(4, |random, policy, rpcs| {
        let (mut stricter, mut closed) = (policy.clone(), policy.clone());
        append(&mut stricter, "deny_rules", generate::rule(random, "new"));
        append(&mut closed, "deny_rules", json!({"name": "new"}));
        let (before, stricter_compiled, closed) =
            (compile(policy), compile(&stricter), compile(&closed));
        for rpc in rpcs {
            assert_eq!(verdict(&closed, rpc), Verdict::Deny);
            if verdict(&before, rpc) == Verdict::Deny {
                assert_eq!(
                    verdict(&stricter_compiled, rpc),
                    Verdict::Deny,
                    "{}",
                    explained(&stricter, rpc)
                );
            }
        }
    });
}

#[test]
fn an_allow_rule_never_takes_access() {
    for_all(5, |random, policy, rpcs| {
        let mut wider = policy.clone();
        append(&mut wider, "allow_rules", generate::rule(random, "new"));
        let (before, after) = (compile(policy), compile(&wider));
        for rpc in rpcs {
            if verdict(&before, rpc) == Verdict::Allow {
                assert_eq!(
                    verdict(&after, rpc),
                    Verdict::Allow,
                    "{}",
                    explained(&wider, rpc)
                );
            }
        }
    });
}

#[test]
fn the_order_of_anything_changes_nothing() {
    for_all(6, |random, policy, rpcs| {
        let mut shuffled = policy.clone();
        shuffle(&mut shuffled, &mut random.0);
        let (before, after) = (compile(policy), compile(&shuffled));
        for rpc in rpcs {
            assert_eq!(
                verdict(&before, rpc),
                verdict(&after, rpc),
                "{}",
                explained(policy, rpc)
            );
        }
    });
}

fn append(policy: &mut Value, list: &str, rule: Value) {
    let mut rules = policy[list].as_array().cloned().unwrap_or_default();
    rules.push(rule);
    policy[list] = rules.into();
}

fn shuffle(value: &mut Value, random: &mut fastrand::Rng) {
    match value {
        Value::Array(items) => {
            random.shuffle(items);
            items.iter_mut().for_each(|item| shuffle(item, random));
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| shuffle(field, random)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
