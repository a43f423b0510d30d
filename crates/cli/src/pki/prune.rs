//! `pki prune`: removes the directories of identities that are no longer wanted.

use std::io::Write;

use anyhow::Result;
use base::text::timestamp;

use super::{Directory, IdentityName};

/// Removes every identity that is not in `stay`, or shows them.
pub(super) fn run(
    directory: &Directory,
    stay: &[&IdentityName],
    remove: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let names = directory.identities()?;
    let gone: Vec<_> = names.iter().filter(|name| !stay.contains(name)).collect();
    let revocations = directory.revocations()?;
    for name in &gone {
        // What is malformed is of no use to anybody.
        let valid_until = directory.credentials(name)?.and_then(|credentials| {
            let leaf = credentials.leaf().ok()?;
            let is_revoked = revocations.of(&leaf.serial).is_some();
            (!is_revoked).then(|| timestamp(leaf.validity.not_after))
        });
        let valid = valid_until.map_or_else(String::new, |until| {
            format!("; its certificate is not revoked, and valid until {until}")
        });
        match remove {
            true => {
                directory.remove(name)?;
                writeln!(out, "{name:<16} removed{valid}")?;
            }
            false => writeln!(out, "{name:<16} would be removed{valid}")?,
        }
    }
    match (gone.is_empty(), remove) {
        (true, _) => writeln!(out, "every identity here is in dev.toml")?,
        (false, true) => {}
        (false, false) => writeln!(
            out,
            "nothing was removed: `{} pki prune --yes` removes them",
            countersign::program::tool()
        )?,
    }
    Ok(())
}
