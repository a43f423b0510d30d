//! `policy test`: a policy held against the cases of its users.

use std::io::{self, Write};

use authz::{Decision, Policy, Verdict};
use serde::Serialize;

use super::case::{Case, CaseResult};
use super::{PolicyError, explain, input};
use crate::OutputFormat;
use crate::text::Printable;

#[derive(Serialize)]
struct Results<'a> {
    results: Vec<CaseResult<'a>>,
}

/// Whether all cases hold.
pub(super) fn write(
    policy: &Policy,
    cases: &[Case],
    output: OutputFormat,
    out: &mut dyn Write,
) -> Result<bool, PolicyError> {
    let decided = || cases.iter().map(|case| (case, case.decide(policy)));
    let holds =
        |(case, decision): &(&Case, Decision<'_>)| Verdict::from(case.expect) == decision.verdict();
    let failed = decided().filter(|it| !holds(it)).count();
    match output {
        OutputFormat::Json => {
            let results = decided()
                .map(|(case, decision)| {
                    CaseResult::new(&case.name, decision, Some(case.expect.into()))
                })
                .collect();
            input::write_json(&Results { results }, out)?;
        }
        OutputFormat::Text => {
            decided().try_for_each(|it| write_case(it.0, it.1, holds(&it), out))?;
            writeln!(
                out,
                "{} of {} cases hold",
                cases.len() - failed,
                cases.len()
            )?;
        }
    }
    Ok(failed == 0)
}

fn write_case(
    case: &Case,
    decision: Decision<'_>,
    holds: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let name = Printable(&case.name);
    if holds {
        return writeln!(out, "ok    {name}");
    }
    let expected = Verdict::from(case.expect).as_str();
    let because = explain::because(decision);
    writeln!(
        out,
        "FAIL  {name}: expected {expected}, but it is {}, {because}",
        decision.verdict().as_str()
    )
}
