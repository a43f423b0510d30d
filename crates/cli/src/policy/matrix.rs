//! `policy matrix` and `policy diff`: every caller by every RPC.

use std::io::{self, Write};

use anyhow::{Result, ensure};
use authz::{Decision, Policy};
use http::HeaderMap;
use serde::Serialize;

use super::Scope;
use super::case::Results;
use super::identities::{Acceptance, NamedCaller};
use super::input::{self, ApiChoice};
use crate::OutputFormat;
use crate::text::{Printable, write_json};

/// One caller and one RPC.
#[derive(Serialize)]
struct Cell<'a> {
    identity: &'a str,
    method: &'a str,
    /// `allow`, `deny`, or `refused` for a certificate that the server does not accept.
    decision: &'static str,
    matched_rule: &'a str,
    principal: &'a str,
    /// Why the certificate is refused, or `""`.
    refusal: &'static str,
}

/// Writes which caller may call which RPC.
pub(super) fn write(policy: &Policy, scope: &Scope, out: &mut dyn Write) -> Result<()> {
    let Asked {
        identities,
        methods,
        headers,
    } = Asked::new(scope, &[policy])?;
    let cell = |identity, method| Cell::new(policy, identity, method, &headers);
    match scope.output {
        OutputFormat::Json => {
            let results = identities
                .iter()
                .flat_map(|identity| methods.iter().map(move |method| cell(identity, method)))
                .collect();
            write_json(&Results { results }, out)?;
        }
        OutputFormat::Text => {
            write_table(&identities, &methods, cell, out)?;
            write_notes(&[policy], &identities, scope, out)?;
        }
    }
    Ok(())
}

/// A line for each RPC, a column for each caller.
fn write_table<'a>(
    identities: &'a [NamedCaller],
    methods: &'a [String],
    cell: impl Fn(&'a NamedCaller, &'a str) -> Cell<'a>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let first = methods.iter().map(|method| method.chars().count()).max();
    let first = first.unwrap_or_default();
    let widths: Vec<usize> = identities.iter().map(column_width).collect();
    let mut line = |head: &str, cells: &mut dyn Iterator<Item = &str>| {
        let mut text = format!("{:first$}", Printable(head));
        for (cell, width) in cells.zip(&widths) {
            text.push_str(&format!("  {:width$}", Printable(cell)));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line("", &mut identities.iter().map(|identity| &*identity.name))?;
    for method in methods {
        let decisions = identities
            .iter()
            .map(|identity| cell(identity, method).decision);
        line(method, &mut { decisions })?;
    }
    Ok(())
}

fn column_width(identity: &NamedCaller) -> usize {
    let name = Printable(&identity.name).to_string();
    name.chars().count().max("refused".len())
}

/// One caller and one RPC that two policies decide otherwise.
#[derive(Serialize)]
struct Flip<'a> {
    identity: &'a str,
    method: &'a str,
    old: &'static str,
    new: &'static str,
    old_rule: &'a str,
    new_rule: &'a str,
}

/// Writes what two policies decide otherwise. Whether there is no such thing.
pub(super) fn write_difference(
    old: &Policy,
    new: &Policy,
    scope: &Scope,
    out: &mut dyn Write,
) -> Result<bool> {
    let Asked {
        identities,
        methods,
        headers,
    } = Asked::new(scope, &[old, new])?;
    let mut flips = Vec::new();
    for identity in &identities {
        for method in &methods {
            let before = Cell::new(old, identity, method, &headers);
            let after = Cell::new(new, identity, method, &headers);
            if before.decision != after.decision {
                flips.push(Flip {
                    identity: &identity.name,
                    method,
                    old: before.decision,
                    new: after.decision,
                    old_rule: before.matched_rule,
                    new_rule: after.matched_rule,
                });
            }
        }
    }
    let same = flips.is_empty();
    match scope.output {
        OutputFormat::Json => write_json(&Results { results: flips }, out)?,
        OutputFormat::Text => {
            for flip in &flips {
                let Flip {
                    identity,
                    method,
                    old,
                    new,
                    old_rule,
                    new_rule,
                } = flip;
                writeln!(
                    out,
                    "{} {}: {old} ({}) -> {new} ({})",
                    Printable(identity),
                    Printable(method),
                    rule_text(old_rule),
                    rule_text(new_rule)
                )?;
            }
            let pairs = identities.len() * methods.len();
            writeln!(
                out,
                "{} of {pairs} pairs of caller and RPC differ",
                flips.len()
            )?;
            write_notes(&[old, new], &identities, scope, out)?;
        }
    }
    Ok(same)
}

fn rule_text(rule: &str) -> String {
    match rule {
        "" => "no rule".to_owned(),
        rule => format!("\"{}\"", Printable(rule)),
    }
}

/// What a policy is asked.
struct Asked {
    identities: Vec<NamedCaller>,
    methods: Vec<String>,
    headers: HeaderMap,
}

impl Asked {
    fn new(scope: &Scope, policies: &[&Policy]) -> Result<Self> {
        let api = ApiChoice::or_default(scope.api.as_ref());
        let methods: Vec<String> = match input::api(&api)? {
            Some(api) => api.paths().map(str::to_owned).collect(),
            None => named_paths(policies),
        };
        ensure!(
            !methods.is_empty(),
            "the policy names no RPC: say with --api what can be called"
        );
        Ok(Self {
            identities: scope.identities.identities(policies)?,
            methods,
            headers: input::metadata(&scope.metadata)?,
        })
    }
}

/// Each path of the policies that is, or could be, one of an RPC. A pattern matches itself, so that it stands for the
/// RPCs that it means.
fn named_paths(policies: &[&Policy]) -> Vec<String> {
    let mut paths: Vec<String> = policies
        .iter()
        .flat_map(|policy| policy.paths())
        .filter(|path| path.starts_with('/') && path.matches('/').count() == 2)
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

impl<'a> Cell<'a> {
    fn new(
        policy: &'a Policy,
        identity: &'a NamedCaller,
        method: &'a str,
        headers: &'a HeaderMap,
    ) -> Self {
        let (decision, matched_rule, principal, refusal) = match &identity.acceptance {
            Acceptance::Refused(code) => ("refused", "", "", *code),
            Acceptance::Accepted(caller) => {
                let decision: Decision<'a> = policy.decide(caller, method, headers);
                let rule = decision.rule().unwrap_or_default();
                (decision.verdict().as_str(), rule, decision.principal, "")
            }
        };
        Self {
            identity: &identity.name,
            method,
            decision,
            matched_rule,
            principal,
            refusal,
        }
    }
}

/// What a reader of the table should know about it.
fn write_notes(
    policies: &[&Policy],
    identities: &[NamedCaller],
    scope: &Scope,
    out: &mut dyn Write,
) -> Result<()> {
    for identity in identities {
        if let Acceptance::Refused(code) = identity.acceptance {
            let name = Printable(&identity.name);
            writeln!(
                out,
                "note: the certificate of {name} is not accepted from a caller: {code}"
            )?;
        }
    }
    if policies.iter().any(|policy| policy.reads_metadata()) && scope.metadata.is_empty() {
        writeln!(
            out,
            "note: some rules look at metadata, and these calls have none; see --metadata"
        )?;
    }
    if matches!(ApiChoice::or_default(scope.api.as_ref()), ApiChoice::None) {
        writeln!(
            out,
            "note: only the paths that the policy names are shown; see --api"
        )?;
    }
    Ok(())
}
