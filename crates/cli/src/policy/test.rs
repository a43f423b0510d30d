//! `policy test`: checks a policy against cases.

use std::io::{self, Write};

use anyhow::Result;
use authz::{Decision, Policy, Verdict};

use super::case::{Case, CaseResult, Results};
use super::explain;
use crate::OutputFormat;
use crate::text::{Printable, write_json};

/// Whether all cases hold.
pub(super) fn write(
    policy: &Policy,
    cases: &[Case],
    output: OutputFormat,
    out: &mut dyn Write,
) -> Result<bool> {
    let decided = || cases.iter().map(|case| (case, case.decide(policy)));
    let held = decided().filter(|(case, decision)| case.holds(*decision));
    let held = held.count();
    match output {
        OutputFormat::Json => {
            let results = decided()
                .map(|(case, decision)| CaseResult::new(&case.name, decision, case.holds(decision)))
                .collect();
            write_json(&Results { results }, out)?;
        }
        OutputFormat::Text => {
            decided().try_for_each(|(case, decision)| write_case(case, decision, out))?;
            writeln!(out, "{held} of {} cases hold", cases.len())?;
        }
    }
    Ok(held == cases.len())
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
