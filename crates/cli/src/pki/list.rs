//! `pki list`: the certificates of the identities, how long they are valid, and whether they are revoked.

use std::io::Write;

use serde::Serialize;
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::error::PkiError;
use super::{Directory, IdentityName, Revocations};
use crate::OutputFormat;
use crate::facts::Facts;
use crate::text::{Printable, write_json};

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
    now: OffsetDateTime,
    out: &mut dyn Write,
) -> Result<(), PkiError> {
    let revocations = directory.revocations()?;
    let names = directory.identities()?;
    let rows = names
        .iter()
        .map(|name| row(directory, &revocations, name, now));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    match output {
        OutputFormat::Json => write_json(&rows, out)?,
        OutputFormat::Text => {
            let widths = "NAME             DAYS LEFT  SERIAL                            STATE      IDENTIFIED AS";
            writeln!(out, "{widths}")?;
            for Row {
                name,
                facts,
                revoked: _,
                problem,
            } in &rows
            {
                let state = problem.as_deref().unwrap_or("valid");
                let (days, serial, principal) =
                    facts.as_ref().map_or(("-".to_owned(), "-", "-"), |facts| {
                        (
                            format!("{:.2}", facts.days_left),
                            &*facts.serial,
                            facts.principal(),
                        )
                    });
                let principal = Printable(principal);
                let state = Printable(state);
                writeln!(
                    out,
                    "{name:<16} {days:>9}  {serial:<32}  {state:<9}  {principal}"
                )?;
            }
        }
    }
    Ok(())
}

fn row(
    directory: &Directory,
    revocations: &Revocations,
    name: &IdentityName,
    now: OffsetDateTime,
) -> Result<Row, PkiError> {
    let unreadable = |problem: String| Row {
        name: name.to_string(),
        facts: None,
        revoked: false,
        problem: Some(problem),
    };
    let Some(credentials) = directory.credentials(name)? else {
        return Ok(unreadable("it was removed just now".to_owned()));
    };
    let der = match credentials.leaf() {
        Ok(der) => der,
        Err(malformed) => return Ok(unreadable(malformed.to_string())),
    };
    let leaf = match Certificate::from_der(&der) {
        Ok(leaf) => leaf,
        Err(malformed) => return Ok(unreadable(malformed.to_string())),
    };
    let revoked = revocations.of(leaf.serial()).is_some();
    let validity = leaf.validity();
    let problem = if revoked {
        Some("revoked")
    } else if now > validity.not_after {
        Some("expired")
    } else if now < validity.not_before {
        Some("not yet valid")
    } else {
        None
    };
    Ok(Row {
        name: name.to_string(),
        facts: Some(Facts::of(&leaf, now)),
        revoked,
        problem: problem.map(str::to_owned),
    })
}
