//! What the `pki` commands print about an identity and a revocation list.

use std::io::{self, Write};

use base::text::timestamp;

use super::operations::Change;
use super::{IdentityName, Revocations};

pub(super) fn report(out: &mut dyn Write, name: &IdentityName, change: &Change) -> io::Result<()> {
    match change {
        Change::Kept(until) => writeln!(out, "{name:<16} kept: valid until {}", timestamp(*until)),
        Change::Issued(until) => {
            writeln!(out, "{name:<16} issued: valid until {}", timestamp(*until))
        }
        Change::Replaced(until, why) => {
            writeln!(
                out,
                "{name:<16} replaced, {why}: valid until {}",
                timestamp(*until)
            )
        }
        Change::Revoked(since) => {
            let since = timestamp(*since);
            writeln!(
                out,
                "{name:<16} left as it is: revoked {since}; `{} pki issue {name} --replace` gives it another",
                countersign::program::tool()
            )
        }
    }
}

pub(super) fn report_list(out: &mut dyn Write, revocations: &Revocations) -> io::Result<()> {
    let Revocations { number, entries } = revocations;
    writeln!(out, "revocation list {number}: {} revoked", entries.len())
}
