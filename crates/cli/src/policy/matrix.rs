//! `policy matrix` and `policy diff`: every caller by every RPC.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use authz::{Loggers, Policy};
use clap::Args;
use http::HeaderMap;
use serde::Serialize;

use super::case::{Answer, Results};
use super::identities::{Acceptance, IdentitySource, NamedCaller};
use super::input::{self, ApiChoice};
use crate::OutputFormat;
use crate::text::Printable;

/// Show which caller may call which RPC.
///
/// The callers are those named by --certs, --cert or --peers; without any of these, the holders of the certificates in
/// certs/, and each principal of the policy as written, patterns included.
#[derive(Debug, Args)]
pub(super) struct Matrix {
    /// The policy [default: policy.json, or else that of this repository].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    scope: Scope,
}

/// Show the callers and RPCs for which two policies decide differently.
///
/// Exits with 1 when there is a difference, as diff(1) does. The callers are those named by --certs, --cert or --peers;
/// without any of these, the holders of the certificates in certs/, and each principal of either policy as written,
/// patterns included.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The policy before.
    old: PathBuf,
    /// The policy after.
    new: PathBuf,
    #[command(flatten)]
    scope: Scope,
}

/// The callers and RPCs of a table.
#[derive(Debug, Args)]
struct Scope {
    #[command(flatten)]
    identities: IdentitySource,
    /// The API: a .proto FILE or a directory of them, to which health and reflection are added; a descriptor set FILE;
    /// "builtin" for the services of the repository that this tool was built in; or "none" for the paths that the
    /// policy names [default: the directory proto of this package; or else builtin, if there is one; or else none]
    #[arg(long, value_name = "FILE|DIR|builtin|none")]
    api: Option<ApiChoice>,
    /// Metadata of the calls; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    metadata: Vec<(String, String)>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl Matrix {
    pub(super) fn run(&self, loggers: &Loggers, out: &mut dyn Write) -> Result<bool> {
        let policy = self.policy.clone().unwrap_or_else(input::policy_here);
        let policy = input::policy(&policy, loggers)?;
        let asked = Asked::new(&self.scope, &[&policy])?;
        let results = Results::of(asked.cells(&policy));
        self.scope.output.write(&results, out, |out| {
            asked.write_table(&policy, out)?;
            asked.write_notes(&[&policy], out)
        })?;
        Ok(true)
    }
}

impl Diff {
    /// Whether the policies decide the same.
    pub(super) fn run(&self, loggers: &Loggers, out: &mut dyn Write) -> Result<bool> {
        let (old, new) = (
            input::policy(&self.old, loggers)?,
            input::policy(&self.new, loggers)?,
        );
        let asked = Asked::new(&self.scope, &[&old, &new])?;
        let cells = asked.cells(&old).zip(asked.cells(&new));
        let pairs = asked.identities.len() * asked.methods.len();
        let flips: Vec<Flip<'_>> = cells
            .filter(|(before, after)| before.answer.decision != after.answer.decision)
            .map(|(before, after)| Flip {
                identity: before.identity,
                method: before.method,
                old: before.answer.decision,
                new: after.answer.decision,
                old_rule: before.answer.matched_rule,
                new_rule: after.answer.matched_rule,
            })
            .collect();
        let differ = flips.len();
        self.scope.output.write(&Results::of(&flips), out, |out| {
            flips.iter().try_for_each(|flip| flip.write(out))?;
            writeln!(out, "{differ} of {pairs} pairs of caller and RPC differ")?;
            asked.write_notes(&[&old, &new], out)
        })?;
        Ok(differ == 0)
    }
}

/// One caller and one RPC.
#[derive(Serialize)]
struct Cell<'a> {
    identity: &'a str,
    method: &'a str,
    /// Its decision may also be `refused`, for a certificate that the server does not accept.
    #[serde(flatten)]
    answer: Answer<'a>,
    /// Why the certificate is refused, or `""`.
    refusal: &'static str,
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

impl Flip<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rule = |rule| match rule {
            "" => "no rule".to_owned(),
            rule => format!("\"{}\"", Printable(rule)),
        };
        let (identity, method) = (Printable(self.identity), Printable(self.method));
        let (old, old_rule) = (self.old, rule(self.old_rule));
        let (new, new_rule) = (self.new, rule(self.new_rule));
        writeln!(
            out,
            "{identity} {method}: {old} ({old_rule}) -> {new} ({new_rule})"
        )
    }
}

/// What policies are asked.
struct Asked {
    identities: Vec<NamedCaller>,
    api: ApiChoice,
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
            api,
            methods,
            headers: input::metadata(&scope.metadata)?,
        })
    }

    /// Each caller with each RPC.
    fn cells<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = Cell<'a>> {
        self.identities.iter().flat_map(move |identity| {
            let methods = self.methods.iter();
            methods.map(move |method| self.cell(policy, identity, method))
        })
    }

    fn cell<'a>(
        &'a self,
        policy: &'a Policy,
        identity: &'a NamedCaller,
        method: &'a str,
    ) -> Cell<'a> {
        let (answer, refusal) = match &identity.acceptance {
            Acceptance::Refused(code) => (Answer::of_nobody("refused"), *code),
            Acceptance::Accepted(caller) => {
                let decision = policy.decide(caller, method, &self.headers);
                (Answer::from(decision), "")
            }
        };
        Cell {
            identity: &identity.name,
            method,
            answer,
            refusal,
        }
    }

    /// A line for each RPC, a column for each caller.
    fn write_table(&self, policy: &Policy, out: &mut dyn Write) -> io::Result<()> {
        let length = |text: &String| Printable(text).to_string().chars().count();
        let first = self.methods.iter().map(length).max().unwrap_or_default();
        let mut line = |head: &str, cell: &dyn Fn(&NamedCaller) -> String| {
            let mut text = format!("{:first$}", Printable(head));
            for identity in &self.identities {
                let width = length(&identity.name).max("refused".len());
                text.push_str(&format!("  {:width$}", Printable(cell(identity))));
            }
            writeln!(out, "{}", text.trim_end())
        };
        line("", &|identity| identity.name.clone())?;
        self.methods.iter().try_for_each(|method| {
            let decision = |caller: &_| self.cell(policy, caller, method).answer.decision;
            line(method, &|caller| decision(caller).to_owned())
        })
    }

    /// What a reader of the table should know about it.
    fn write_notes(&self, policies: &[&Policy], out: &mut dyn Write) -> io::Result<()> {
        for identity in &self.identities {
            if let Acceptance::Refused(code) = identity.acceptance {
                let name = Printable(&identity.name);
                writeln!(
                    out,
                    "note: the certificate of {name} is not accepted from a caller: {code}"
                )?;
            }
        }
        if policies.iter().any(|policy| policy.reads_metadata()) && self.headers.is_empty() {
            writeln!(
                out,
                "note: some rules look at metadata, and these calls have none; see --metadata"
            )?;
        }
        if matches!(self.api, ApiChoice::None) {
            writeln!(
                out,
                "note: only the paths that the policy names are shown; see --api"
            )?;
        }
        Ok(())
    }
}

/// Each path of the policies that is, or could be, one of an RPC. A pattern matches itself, so that it stands for the
/// RPCs that it means.
fn named_paths(policies: &[&Policy]) -> Vec<String> {
    let paths = policies.iter().flat_map(|policy| policy.paths());
    let is_of_an_rpc = |path: &String| path.starts_with('/') && path.matches('/').count() == 2;
    let paths: BTreeSet<String> = paths.filter(is_of_an_rpc).collect();
    paths.into_iter().collect()
}
