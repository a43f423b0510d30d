//! `pki list`: the certificates of the identities, how long they are valid, and whether they are revoked.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::{Directory, IdentityName, Revocations};
use crate::OutputFormat;
use crate::facts::Facts;
use crate::text::Printable;

const REVOKED: &str = "revoked";

#[derive(Serialize)]
struct ListRow {
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
    output.write(&rows, out, |out| {
        let widths = "NAME             DAYS LEFT  SERIAL                            STATE      IDENTIFIED AS";
        writeln!(out, "{widths}")?;
        rows.iter().try_for_each(|row| row.write(out))
    })?;
    Ok(())
}

impl ListRow {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (days, serial, principal) = match &self.facts {
            None => ("-".to_owned(), "-", "-"),
            Some(facts) => {
                let days = format!("{:.2}", facts.days_left);
                (days, &*facts.serial, facts.principal())
            }
        };
        let (name, principal) = (&self.name, Printable(principal));
        let state = Printable(self.problem.as_deref().unwrap_or("valid"));
        writeln!(
            out,
            "{name:<16} {days:>9}  {serial:<32}  {state:<9}  {principal}"
        )
    }
}

fn row(directory: &Directory, revocations: &Revocations, name: &IdentityName) -> Result<ListRow> {
    let now = directory.now;
    let leaf = match directory.credentials(name)? {
        None => Err("it was removed just now".to_owned()),
        Some(held) => held.leaf().map_err(|unreadable| format!("{unreadable:#}")),
    };
    let problem = match &leaf {
        Err(unreadable) => Some(&**unreadable),
        Ok(leaf) if revocations.of(&leaf.serial).is_some() => Some(REVOKED),
        Ok(leaf) if now > leaf.validity.not_after => Some("expired"),
        Ok(leaf) if now < leaf.validity.not_before => Some("not yet valid"),
        Ok(_) => None,
    };
    Ok(ListRow {
        name: name.to_string(),
        revoked: problem == Some(REVOKED),
        problem: problem.map(str::to_owned),
        facts: leaf.ok().map(|leaf| Facts::of(&leaf, now)),
    })
}
