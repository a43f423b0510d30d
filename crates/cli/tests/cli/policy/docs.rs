//! The policy of docs/authorization.md. Its examples are about the pair, and run in tests/.

use crate::tool::Sandbox;

const DOCS: &str = include_str!("../../../../../docs/authorization.md");

#[test]
fn the_policy_of_the_documentation_is_valid() {
    let (_, policy) = DOCS.split_once("```json\n").unwrap();
    let (policy, _) = policy.split_once("```").unwrap();
    let sandbox = Sandbox::empty();
    sandbox.write("p.json", policy);
    sandbox.succeed(&["policy", "check", "p.json", "--api", "none", "--strict"]);
}
