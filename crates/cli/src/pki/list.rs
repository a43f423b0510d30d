//! `pki list`: the certificates of the identities, how long they are valid, and whether they are revoked.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{Directory, IdentityName, Revocations};
use crate::OutputFormat;
use crate::facts::Facts;
use crate::text::{Printable, write_json};

const REVOKED: &str = "revoked";

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    facts: Option<Facts>,
    revoked: bool,
    /// Why no service would accept it, when that can be seen without its peers.
    problem: Option<String>,
}

pub(super) fn write(
    directory: &Directory,
    output: OutputFormat,
    out: &mut dyn Write,
) -> Result<()> {
    let revocations = directory.revocations()?;
    let names = directory.identities()?;
    let rows = names.iter().map(|name| row(directory, &revocations, name));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    match output {
        OutputFormat::Json => write_json(&rows, out)?,
        OutputFormat::Text => {
            let widths = "NAME             DAYS LEFT  SERIAL                            STATE      IDENTIFIED AS";
            writeln!(out, "{widths}")?;
            for row in &rows {
                let (days, serial, principal) = match &row.facts {
                    None => ("-".to_owned(), "-", "-"),
                    Some(facts) => (
                        format!("{:.2}", facts.days_left),
                        &*facts.serial,
                        facts.principal(),
                    ),
                };
                let (name, principal) = (&row.name, Printable(principal));
                let state = Printable(row.problem.as_deref().unwrap_or("valid"));
                writeln!(
                    out,
                    "{name:<16} {days:>9}  {serial:<32}  {state:<9}  {principal}"
                )?;
            }
        }
    }
    Ok(())
}

fn row(directory: &Directory, revocations: &Revocations, name: &IdentityName) -> Result<Row> {
    let now = directory.now;
    let row = |facts, problem: Option<String>| Row {
        name: name.to_string(),
        facts,
        revoked: problem.as_deref() == Some(REVOKED),
        problem,
    };
    let Some(credentials) = directory.credentials(name)? else {
        return Ok(row(None, Some("it was removed just now".to_owned())));
    };
    let leaf = match credentials.leaf() {
        Ok(leaf) => leaf,
        Err(unreadable) => return Ok(row(None, Some(format!("{unreadable:#}")))),
    };
    let validity = leaf.validity();
    let problem = if revocations.of(leaf.serial()).is_some() {
        Some(REVOKED)
    } else if now > validity.not_after {
        Some("expired")
    } else if now < validity.not_before {
        Some("not yet valid")
    } else {
        None
    };
    let facts = Facts::of(&leaf, now);
    Ok(row(Some(facts), problem.map(str::to_owned)))
}
