//! docs/errors.md against the code: each error code has its entry, and each entry is of a code in use.

use std::collections::BTreeSet;

use base::call::NotACall;

use harness::world::repository;

#[test]
fn the_catalogue_has_each_code_and_no_other() {
    let lists = [
        identity::codes::ALL,
        mtls::codes::ALL,
        authz::codes::ALL,
        countersign::codes::ALL,
        server::codes::ALL,
        cli::codes::ALL,
    ];
    let mut codes: BTreeSet<_> = lists.concat().into_iter().collect();
    codes.extend(NotACall::ALL.map(NotACall::code));
    let text = std::fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    let listed: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    let missing: Vec<_> = codes.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&codes).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "without an entry in docs/errors.md: {missing:?}\nin docs/errors.md, and no code: {stale:?}"
    );
}
