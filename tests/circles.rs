//! No circle of files in any crate: what a file uses can be read without it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::architecture::{files, read, root};

/// A module by its path within its crate; the root is empty and no part of a circle, since it only lists the others.
type Module = Vec<String>;

#[test]
fn no_crate_has_a_circle_of_files() {
    let mut circles = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let src = entry.unwrap().path().join("src");
        if !src.is_dir() {
            continue;
        }
        let uses = uses(&src);
        for module in uses.keys() {
            if reached(module, &uses).contains(module) {
                circles.push(format!("{}: {}", src.display(), module.join("::")));
            }
        }
    }
    assert!(circles.is_empty(), "in a circle:\n{}", circles.join("\n"));
}

/// What each module names of its own crate.
fn uses(src: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let texts: BTreeMap<Module, String> = files(src, "rs")
        .into_iter()
        .map(|path| (module(&path, src), shipped(&read(&path))))
        .collect();
    let mut uses = BTreeMap::new();
    for (module, text) in texts.iter().filter(|(module, _)| !module.is_empty()) {
        let mut used: BTreeSet<_> = names(text, module)
            .into_iter()
            .filter_map(|name| {
                (1..=name.len())
                    .rev()
                    .map(|end| name[..end].to_vec())
                    .find(|prefix| texts.contains_key(prefix))
            })
            .collect();
        used.remove(module);
        uses.insert(module.clone(), used);
    }
    uses
}

fn module(path: &Path, src: &Path) -> Module {
    let inside = path.strip_prefix(src).unwrap().with_extension("");
    let mut module: Module = inside
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if module
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&&**last))
    {
        module.pop();
    }
    module
}

/// The text without comments and unit tests.
fn shipped(text: &str) -> String {
    let (code, _tests) = text
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((text, ""));
    let lines = code
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that begin with `crate` or `super`, those in braces too.
fn names(text: &str, module: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for (keyword, levels) in [("crate::", module.len()), ("super::", 1)] {
        for (at, _) in text.match_indices(keyword) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let base = module[..module.len() - levels].to_vec();
            expand(&text[at + keyword.len()..], &base, &mut found);
        }
    }
    found
}

/// The paths at the beginning of `text`: one, or a group in braces after a common part.
fn expand(text: &str, base: &Module, found: &mut Vec<Module>) {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let mut name = base.clone();
    name.extend(
        path.split("::")
            .filter(|part| !part.is_empty() && *part != "self")
            .map(str::to_owned),
    );
    match rest
        .strip_prefix('{')
        .and_then(|group| group.split_once('}'))
    {
        Some((group, _)) if path.is_empty() || path.ends_with("::") => {
            for item in group.split(',') {
                expand(item.trim_start(), &name, found);
            }
        }
        Some(_) | None => found.push(name),
    }
}

fn reached(from: &Module, uses: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = uses[from].iter().collect();
    while let Some(module) = open.pop() {
        if reached.insert(module.clone()) {
            open.extend(uses.get(module).into_iter().flatten());
        }
    }
    reached
}
