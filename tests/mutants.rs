//! The shipped policy with one mistake in it: refused, found by `policy check --strict`, or by the cases that are
//! shipped beside it.

use clap::Parser;
use cli::policy::PolicyCommand;
use serde_json::{Map, Value, json};

const POLICY: &str = include_str!("../crates/server/policy.json");
const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/server/policy-cases.json"
);

/// The command as a program has it, but in this process, because there are hundreds of them.
#[derive(Parser)]
struct Tool {
    #[command(flatten)]
    policy: PolicyCommand,
}

fn holds(arguments: &[&str]) -> bool {
    let tool = Tool::parse_from([&["policy"], arguments].concat());
    let done = cli::policy::run(tool.policy, &mut Vec::new());
    done.is_ok_and(|code| code == countersign::program::exit::OK)
}

struct Mutant {
    what: String,
    policy: Value,
}

fn original() -> Value {
    serde_json::from_str(POLICY).unwrap()
}

/// The places of all values, in the order of the text; not of the whole.
fn places(value: &Value, place: &str, into: &mut Vec<String>) {
    let steps: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, it)| (key.clone(), it)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, it)| (at.to_string(), it))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (step, inner) in steps {
        let place = format!("{place}/{step}");
        into.push(place.clone());
        places(inner, &place, into);
    }
}

fn all_places() -> Vec<String> {
    let mut all = Vec::new();
    places(&original(), "", &mut all);
    all
}

/// The original with a change at `place`, unless that changes nothing.
fn mutant(what: &str, place: &str, change: impl FnOnce(&mut Value)) -> Option<Mutant> {
    let mut policy = original();
    change(policy.pointer_mut(place).unwrap());
    (policy != original()).then(|| Mutant {
        what: format!("{what} {place}"),
        policy,
    })
}

fn dropped(place: &str) -> Option<Mutant> {
    let (parent, step) = place.rsplit_once('/').unwrap();
    mutant("without", parent, |parent| match parent {
        Value::Object(fields) => drop(fields.remove(step)),
        Value::Array(items) => drop(items.remove(step.parse().unwrap())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    })
    .map(|it| Mutant {
        what: format!("without {place}"),
        ..it
    })
}

fn emptied(place: &str) -> Option<Mutant> {
    mutant("empty", place, |value| match value {
        Value::String(text) => text.clear(),
        Value::Array(items) => items.clear(),
        Value::Object(fields) => fields.clear(),
        Value::Null | Value::Bool(_) | Value::Number(_) => *value = Value::Null,
    })
}

/// What a hand does to a word: leaves a letter out, doubles one, swaps two, takes the wrong case, adds a space.
fn misspellings(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let middle = letters.len() / 2;
    let change = |change: &dyn Fn(&mut Vec<char>)| {
        let mut letters = letters.clone();
        change(&mut letters);
        letters.into_iter().collect::<String>()
    };
    if letters.len() < 2 {
        return Vec::new();
    }
    vec![
        change(&|it| {
            it.remove(middle);
        }),
        change(&|it| {
            it.pop();
        }),
        change(&|it| it.insert(middle, it[middle])),
        change(&|it| it.swap(middle - 1, middle)),
        change(&|it| {
            let at = it
                .iter()
                .position(|c| c.is_alphabetic())
                .unwrap_or_default();
            it[at] = match it[at].is_lowercase() {
                true => it[at].to_ascii_uppercase(),
                false => it[at].to_ascii_lowercase(),
            };
        }),
        change(&|it| it.push(' ')),
    ]
}

fn misspelled(place: &str) -> Vec<Mutant> {
    let original = original();
    let text = original.pointer(place).unwrap().as_str();
    let values = text
        .into_iter()
        .flat_map(misspellings)
        .filter_map(|typo| mutant(&format!("{typo:?} at"), place, |value| *value = json!(typo)));
    let (parent, key) = place.rsplit_once('/').unwrap();
    let keys = match original.pointer(parent).unwrap().is_object() {
        true => misspellings(key),
        false => Vec::new(),
    };
    let keys = keys.into_iter().filter_map(|typo| {
        mutant(&format!("the key {typo:?} in"), parent, |object| {
            let fields = object.as_object_mut().unwrap();
            let value = fields.remove(key).unwrap();
            fields.insert(typo.clone(), value);
        })
    });
    values.chain(keys).collect()
}

/// Values of one kind that stand in each other's place: principals, paths, names, lists, whole rules.
fn exchanged(places: &[String]) -> Vec<Mutant> {
    let original = original();
    let kind = |place: &str| -> Vec<String> {
        let index = |step: &str| step.parse::<usize>().is_ok();
        let steps = place.split('/');
        steps
            .map(|step| if index(step) { "#" } else { step }.to_owned())
            .collect()
    };
    let parent = |place: &str| place.rsplit_once('/').unwrap().0.to_owned();
    let mut mutants = Vec::new();
    for (at, one) in places.iter().enumerate() {
        // The next of its kind that is in another list or object: within a list the order means nothing.
        let other = places[at + 1..]
            .iter()
            .find(|other| kind(other) == kind(one) && parent(other) != parent(one));
        let Some(other) = other else { continue };
        let mut policy = original.clone();
        let taken = policy.pointer_mut(one).unwrap().take();
        let given = std::mem::replace(policy.pointer_mut(other).unwrap(), taken);
        *policy.pointer_mut(one).unwrap() = given;
        if policy != original {
            mutants.push(Mutant {
                what: format!("{one} and {other} exchanged"),
                policy,
            });
        }
    }
    mutants
}

/// Each rule in the other list.
fn misplaced_rules() -> Vec<Mutant> {
    let original = original();
    let rules = original["allow_rules"].as_array().unwrap();
    (0..rules.len())
        .map(|at| {
            let mut policy = original.clone();
            let rule = policy["allow_rules"].as_array_mut().unwrap().remove(at);
            policy["deny_rules"] = json!([rule]);
            Mutant {
                what: format!("/allow_rules/{at} among the deny rules"),
                policy,
            }
        })
        .collect()
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "the number is worth reading when it holds, too"
)]
fn nearly_every_mistake_in_the_shipped_policy_is_found() {
    let places = all_places();
    let mut mutants = misplaced_rules();
    mutants.extend(exchanged(&places));
    for place in &places {
        mutants.extend(dropped(place));
        mutants.extend(emptied(place));
        mutants.extend(misspelled(place));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.json");
    let path = file.to_str().unwrap();
    let found = |policy: &Value| {
        std::fs::write(&file, policy.to_string()).unwrap();
        !holds(&["check", path, "--strict"]) || !holds(&["test", "--policy", path, CASES])
    };
    assert!(!found(&original()), "the shipped policy itself is at fault");
    let survivors: Vec<&str> = mutants
        .iter()
        .filter(|mutant| !found(&mutant.policy))
        .map(|mutant| &*mutant.what)
        .collect();
    eprintln!(
        "{} of {} mutants were found; not these:\n{}",
        mutants.len() - survivors.len(),
        mutants.len(),
        survivors.join("\n")
    );
    assert!(mutants.len() > 500);
    assert!(survivors.len() * 20 <= mutants.len(), "less than 95 %");
}

#[test]
fn the_order_of_lists_and_fields_means_nothing() {
    fn reversed(value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().rev().map(reversed).collect(),
            Value::Object(fields) => {
                let fields: Map<_, _> = fields
                    .into_iter()
                    .rev()
                    .map(|(k, v)| (k, reversed(v)))
                    .collect();
                Value::Object(fields)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.json");
    std::fs::write(&file, reversed(original()).to_string()).unwrap();
    let path = file.to_str().unwrap();
    assert!(holds(&["check", path, "--strict"]));
    assert!(holds(&["test", "--policy", path, CASES]));
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/server/policy.json");
    assert!(holds(&["diff", shipped, path]));
}
