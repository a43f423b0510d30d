//! What a decision costs, and that it does not grow with the policy: `cargo bench -p countersign-authz`.
//!
//! Prints ns per decision, the median of many short runs, for policies of 10, 1,000 and 10,000 rules.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and fails by panicking"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use countersign_authz::{Authorization, Caller, LivePolicy, Policy, Verdict};
use http::{HeaderMap, Request};

const RULES: [usize; 3] = [10, 1_000, 10_000];
const RUN: Duration = Duration::from_millis(5);
const RUNS: usize = 41;

fn main() {
    println!(
        "{:<48} {:>9} {:>9} {:>9}",
        "ns per decision, by number of rules", RULES[0], RULES[1], RULES[2]
    );
    let one_rule_each: fn(usize) -> (String, String) =
        |at| (format!("/a.S{at}/M"), format!("spiffe://t/{at}"));
    let one_path: fn(usize) -> (String, String) =
        |at| ("/a.S/M".into(), format!("spiffe://t/{at}"));
    let services: fn(usize) -> (String, String) =
        |at| (format!("/a.S{at}/*"), format!("spiffe://t/{at}"));
    let patterns: fn(usize) -> (String, String) =
        |at| (format!("/a.S{at}/M"), format!("spiffe://t/{at}/*"));
    for (what, rule, path, name) in [
        (
            "exact paths: allowed",
            one_rule_each,
            "/a.S7/M",
            "spiffe://t/7",
        ),
        (
            "exact paths: denied, unknown path",
            one_rule_each,
            "/a.S7/N",
            "spiffe://t/7",
        ),
        (
            "exact paths: denied, other principal",
            one_rule_each,
            "/a.S7/M",
            "spiffe://t/8",
        ),
        (
            "one exact path, a principal each: allowed",
            one_path,
            "/a.S/M",
            "spiffe://t/7",
        ),
        ("services: allowed", services, "/a.S7/M", "spiffe://t/7"),
        (
            "exact paths, principal prefixes: allowed",
            patterns,
            "/a.S7/M",
            "spiffe://t/7/x",
        ),
    ] {
        print(
            what,
            RULES.map(|count| cost(&policy(count, rule), path, name)),
        );
    }
    let costs = RULES.map(|count| cost_of_a_call(policy(count, one_rule_each)));
    print("a call after the first on a connection: allowed", costs);
}

fn print(what: &str, costs: [u128; 3]) {
    println!("{what:<48} {:>9} {:>9} {:>9}", costs[0], costs[1], costs[2]);
}

/// Rules for a path and a principal each.
fn policy(count: usize, rule: fn(usize) -> (String, String)) -> Policy {
    let rules: Vec<String> = (0..count)
        .map(|at| {
            let (path, name) = rule(at);
            format!(
                r#"{{"name":"r{at}","source":{{"principals":["{name}"]}},"request":{{"paths":["{path}"]}}}}"#
            )
        })
        .collect();
    Policy::parse(format!(r#"{{"name":"p","allow_rules":[{}]}}"#, rules.join(",")).as_bytes())
        .unwrap()
}

fn cost(policy: &Policy, path: &str, name: &str) -> u128 {
    let caller = Caller::Authenticated {
        uri_sans: vec![name.into()],
        dns_sans: vec![],
        subject: String::new(),
    };
    let headers = HeaderMap::new();
    let decide = || -> Verdict {
        black_box(policy)
            .decide(black_box(&caller), black_box(path), black_box(&headers))
            .verdict()
    };
    median(decide)
}

/// What a server does for a call: it remembers what the policy said of the same method.
fn cost_of_a_call(policy: Policy) -> u128 {
    let caller = Caller::Authenticated {
        uri_sans: vec!["spiffe://t/7".into()],
        dns_sans: vec![],
        subject: String::new(),
    };
    let gate = Authorization::new(LivePolicy::new(policy)).gate(caller);
    let request = Request::post("/a.S7/M").body(()).unwrap();
    median(|| {
        black_box(&gate)
            .admit(Some(3), black_box(&request))
            .unwrap()
    })
}

fn median<T>(decide: impl Fn() -> T) -> u128 {
    let mut runs: Vec<u128> = (0..RUNS)
        .map(|_| {
            let (start, mut decided) = (Instant::now(), 0);
            while start.elapsed() < RUN {
                for _ in 0..100 {
                    black_box(decide());
                }
                decided += 100;
            }
            start.elapsed().as_nanos() / decided
        })
        .collect();
    runs.sort_unstable();
    runs[RUNS / 2]
}
