//! docs/errors.md against the code: each error code has its entry, and each entry is of a code in use.

use std::collections::BTreeSet;
use std::path::Path;

use harness::world::repository;

/// Where codes are made.
const SOURCES: [&str; 8] = [
    "crates/identity/src",
    "crates/mtls/src",
    "crates/authz/src",
    "crates/base/src",
    "crates/countersign/src",
    "crates/server/src",
    "crates/cli/src/cert",
    "crates/cli/src/doctor",
];

/// Words in capitals that are no codes: the audit conditions of gRFC A59, and a variable of SPIFFE.
const NO_CODES: [&str; 4] = [
    "ON_DENY",
    "ON_ALLOW",
    "ON_DENY_AND_ALLOW",
    "SPIFFE_ENDPOINT_SOCKET",
];

#[test]
fn the_catalogue_has_each_code_and_no_other() {
    let mut said = BTreeSet::new();
    for dir in SOURCES {
        collect(&repository().join(dir), &mut said);
    }
    let text = std::fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    let listed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    // A single word may be a part of a name in a certificate or of a PEM label as well.
    let missing: Vec<_> = said
        .difference(&listed)
        .filter(|word| word.contains('_'))
        .collect();
    assert!(
        missing.is_empty(),
        "without an entry in docs/errors.md: {missing:?}"
    );
    let stale: Vec<_> = listed.difference(&said).collect();
    assert!(
        stale.is_empty(),
        "in docs/errors.md, and said by nobody: {stale:?}"
    );
    assert!(said.len() > 50, "{said:?}");
}

fn collect(path: &Path, said: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), said);
        }
        return;
    }
    if path.ends_with("tests.rs") {
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
    let lines = code.lines().map(str::trim_start);
    for line in lines.filter(|line| !line.starts_with("//") && !is_about_settings(line)) {
        said.extend(
            line.split('"')
                .skip(1)
                .step_by(2)
                .filter(|it| is_code(it))
                .map(str::to_owned),
        );
    }
}

fn is_about_settings(line: &str) -> bool {
    ["value_name", "env =", "env!(", "env(", "var_os("]
        .iter()
        .any(|it| line.contains(it))
}

/// `LIKE_THIS`, or one word that is no abbreviation.
fn is_code(text: &str) -> bool {
    let capitals = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    text.split('_').all(capitals) && text.len() >= 7 && !NO_CODES.contains(&text)
}
