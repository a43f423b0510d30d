//! `policy test`: checks a policy against cases.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use authz::{Decision, Loggers, Verdict};
use clap::Args;

use super::case::{Case, CaseResult, Results};
use super::{explain, input};
use crate::OutputFormat;
use crate::text::Printable;

/// Test a policy against cases: a caller, an RPC, and the expected decision.
///
/// CASES is {"cases": [{"name": "...", "peer": {"uri_sans": ["spiffe://acme.test/orders"]}, "method":
/// "/package.Service/Method", "metadata": {"key": ["value"]}, "expect": "allow"}]}. A peer has uri_sans, dns_sans and
/// subject, each empty unless given; "authenticated": false is a caller without a certificate, "tls": false one without
/// TLS. Metadata is optional. A case may name the rule that must decide as "matched_rule", and have a "note".
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The policy.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The cases.
    cases: PathBuf,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl Test {
    /// Whether all cases hold.
    pub(super) fn run(&self, loggers: &Loggers, out: &mut dyn Write) -> Result<bool> {
        let policy = input::policy(&self.policy, loggers)?;
        let cases = input::cases(&self.cases)?;
        let decided = || cases.iter().map(|case| (case, case.decide(&policy)));
        let held = decided().filter(|(case, decision)| case.holds(*decision));
        let held = held.count();
        let results = decided()
            .map(|(case, decision)| CaseResult::new(&case.name, decision, case.holds(decision)));
        self.output.write(&Results::of(results), out, |out| {
            decided().try_for_each(|(case, decision)| write_case(case, decision, out))?;
            writeln!(out, "{held} of {} cases passed", cases.len())
        })?;
        Ok(held == cases.len())
    }
}

fn write_case(case: &Case, decision: Decision<'_>, out: &mut dyn Write) -> io::Result<()> {
    let name = Printable(&case.name);
    if case.holds(decision) {
        return writeln!(out, "ok    {name}");
    }
    let expected = Verdict::from(case.expect).as_str();
    let by = match case.matched_rule.as_deref() {
        None => String::new(),
        Some("") => " by no rule".to_owned(),
        Some(rule) => format!(" by the rule \"{}\"", Printable(rule)),
    };
    writeln!(
        out,
        "FAIL  {name}: expected {expected}{by}, but it is {}, {}",
        decision.verdict().as_str(),
        explain::because(decision)
    )
}
