//! The house rules that a compiler does not check: which crate may depend on which, and what must not be in the graph.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::Table;

/// Which of our crates each of our crates may depend on, by the folders under `crates`. What is not here is forbidden.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("test-contract", &[]),
    ("identity", &[]),
    ("build", &[]),
    ("base", &[]),
    ("telemetry", &["base"]),
    ("authz", &["base", "identity"]),
    ("mtls", &["base", "identity"]),
    (
        "countersign",
        &["authz", "base", "identity", "mtls", "telemetry"],
    ),
    ("cli", &["authz", "base", "countersign", "identity", "mtls"]),
    ("server", &["countersign", "proto"]),
    ("client", &["countersign", "proto"]),
    ("template", &["countersign"]),
];

/// Stamped as a workspace of its own, and so with versions of its own, which must be those of this workspace.
const TEMPLATE: &str = "template";

/// The published crates: what services depend on, and so without a word of the example's domain.
const PUBLISHED: &[&str] = &[
    "identity",
    "base",
    "build",
    "telemetry",
    "authz",
    "mtls",
    "countersign",
    "cli",
];

/// The example of a service, which may be changed or deleted without the library.
const PAIR: &[&str] = &["proto", "server", "client"];

const LIBRARY_TESTS: &str = "tests/library";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn manifest(path: &Path) -> Table {
    read(path)
        .parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn crates() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(crate) fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_crate_has_its_row_and_every_row_its_crate() {
    let rows: BTreeSet<String> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(crates(), rows);
}

#[test]
fn a_crate_depends_only_on_the_crates_that_the_design_allows_it() {
    let ours = crates();
    for (name, allowed) in ALLOWED {
        let manifest = manifest(&root().join("crates").join(name).join("Cargo.toml"));
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        for section in ["dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(|value| value.as_table())
            else {
                continue;
            };
            let edges: BTreeSet<_> = dependencies
                .keys()
                .map(String::as_str)
                .filter(|key| ours.contains(*key))
                .collect();
            let forbidden: Vec<_> = edges.difference(&allowed).collect();
            assert!(
                forbidden.is_empty(),
                "{name} must not depend on {forbidden:?}"
            );
        }
    }
}

#[test]
fn every_version_is_in_the_root_manifest_with_its_reason() {
    let manifests = crates()
        .into_iter()
        .filter(|name| name != TEMPLATE)
        .map(|name| root().join("crates").join(name));
    for dir in manifests.chain([root().join("tests"), root().join(LIBRARY_TESTS)]) {
        let manifest = manifest(&dir.join("Cargo.toml"));
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for (name, value) in manifest
                .get(section)
                .and_then(|v| v.as_table())
                .into_iter()
                .flatten()
            {
                let inherited = value.get("workspace").and_then(|w| w.as_bool()) == Some(true);
                assert!(
                    inherited,
                    "{}: {name} must say workspace = true",
                    dir.display()
                );
            }
        }
    }
    let text = read(&root().join("Cargo.toml"));
    let (_, dependencies) = text.split_once("[workspace.dependencies]").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    for line in dependencies
        .lines()
        .filter(|line| line.contains(" = ") && !line.contains("path ="))
    {
        let reason = line.rsplit_once("# ").map_or("", |(_, reason)| reason);
        assert!(reason.len() > 10, "a dependency without its reason: {line}");
    }
}

#[test]
fn the_template_has_the_versions_lints_and_edition_of_the_workspace() {
    let workspace = manifest(&root().join("Cargo.toml"));
    let template = manifest(&root().join("crates").join(TEMPLATE).join("Cargo.toml"));
    let at = |table: &Table, path: &[&str]| {
        let value = path
            .iter()
            .try_fold(toml::Value::Table(table.clone()), |value, key| {
                value.get(key).cloned()
            });
        value.unwrap_or_else(|| panic!("there is no {path:?}"))
    };
    let own_version = at(&workspace, &["workspace", "package", "version"]);
    // A crate of ours that is a development dependency has none, so that packaging leaves it out.
    let version = |value: &toml::Value| match value.as_table() {
        Some(table) => table.get("version").unwrap_or(&own_version).clone(),
        None => value.clone(),
    };
    let ours = at(&workspace, &["workspace", "dependencies"]);
    let ours: Vec<_> = ours.as_table().unwrap().iter().collect();
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (name, value) in at(&template, &[section]).as_table().unwrap() {
            let (_, known) = ours
                .iter()
                .find(|(key, known)| {
                    known.get("package").and_then(|p| p.as_str()).unwrap_or(key) == name
                })
                .unwrap_or_else(|| panic!("the workspace has no {name}"));
            assert_eq!(version(value), version(known), "{name}");
        }
    }
    for key in ["edition", "rust-version", "version"] {
        let (ours, its) = (["workspace", "package", key], ["package", key]);
        assert_eq!(at(&template, &its), at(&workspace, &ours), "{key}");
    }
    for tool in ["rust", "clippy"] {
        let ours = at(&workspace, &["workspace", "lints", tool]);
        for (lint, level) in at(&template, &["lints", tool]).as_table().unwrap() {
            assert_eq!(Some(level), ours.get(lint), "{lint}");
        }
    }
}

#[test]
fn one_crypto_provider_is_in_the_graph_and_no_other_tls() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--workspace",
            "--edges=all",
            "--prefix=none",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let graph = String::from_utf8(tree.stdout).unwrap();
    let names: BTreeSet<_> = graph
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.contains("aws-lc-rs"),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    for banned in [
        "ring",
        "openssl",
        "openssl-sys",
        "native-tls",
        "webpki-roots",
    ] {
        assert!(
            !names.contains(banned),
            "{banned} is in the dependency graph"
        );
    }
}

#[test]
fn the_published_crates_hold_no_word_of_the_inventory() {
    for name in PUBLISHED {
        for path in files(&root().join("crates").join(name).join("src"), "rs") {
            let text = read(&path).to_lowercase();
            for word in ["inventory", "sku", "reservestock"] {
                assert!(!text.contains(word), "{} says {word:?}", path.display());
            }
        }
    }
}

#[test]
fn the_library_is_tested_without_the_pair() {
    let published = PUBLISHED
        .iter()
        .map(|name| root().join("crates").join(name));
    for dir in published.chain([root().join(LIBRARY_TESTS)]) {
        let manifest = manifest(&dir.join("Cargo.toml"));
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let dependencies = manifest.get(section).and_then(|value| value.as_table());
            let mut names = dependencies.into_iter().flatten().map(|(name, _)| name);
            let pair = names.find(|name| PAIR.contains(&name.as_str()));
            assert_eq!(pair, None, "{}", dir.display());
        }
    }
    for path in files(&root().join(LIBRARY_TESTS), "rs") {
        let text = read(&path);
        for word in [
            "inventory",
            "certs/dev.toml",
            "crates/server",
            "crates/client",
        ] {
            assert!(!text.contains(word), "{} says {word:?}", path.display());
        }
    }
}

#[test]
fn only_one_file_chooses_cryptography() {
    for path in files(&root().join("crates"), "rs") {
        let text = read(&path);
        let chooses = [
            "builder_with_provider",
            "default_provider()",
            "install_default(",
        ]
        .iter()
        .any(|call| text.contains(call));
        assert!(
            !chooses || path.ends_with("mtls/src/crypto.rs"),
            "{} chooses a crypto provider",
            path.display()
        );
    }
}

#[test]
fn only_the_verifier_makes_a_peer() {
    let crates = root().join("crates");
    for path in files(&crates, "rs") {
        let inside = path.strip_prefix(&crates).unwrap();
        if inside.starts_with("identity") || !inside.components().any(|c| c.as_os_str() == "src") {
            continue;
        }
        let text = read(&path);
        let (text, _unit_tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        assert!(
            !text.contains("from_verified_path(") || inside.ends_with("mtls/src/trust/verify.rs"),
            "{} makes a peer of bytes that it did not verify: use Claims",
            path.display()
        );
        assert!(
            !text.contains("unverified_for_tests("),
            "{} makes up a peer outside of tests",
            path.display()
        );
    }
}

#[test]
fn a_server_is_built_without_the_transport_of_others() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--package=server",
            "--edges=normal",
            "--prefix=none",
        ])
        .args(["--format={p} {f}", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let graph = String::from_utf8(tree.stdout).unwrap();
    let tonic = graph.lines().find(|line| line.starts_with("tonic v"));
    let features = tonic.and_then(|line| line.split(' ').nth(2)).unwrap();
    for feature in features.split(',') {
        assert!(["codegen", "router"].contains(&feature), "tonic/{feature}");
    }
}
