//! `pki renew --watch`: renews certificates before they expire. It ends at a signal, between two renewals.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use base::text::in_one_line;
use time::OffsetDateTime;

use super::operations::Change;
use super::{Directory, Group, IdentityName};

/// An identity that is added meanwhile is seen after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A certificate that is due at once, again and again, must not keep a processor busy.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Renews each identity when it is due, those of `names` or else all, until the process is asked to stop.
pub(super) fn renew(
    path: &Path,
    names: &[IdentityName],
    lifetime: Option<Duration>,
    readers: Option<Group>,
    out: &mut dyn Write,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = countersign::program::stop_signal()?;
        // The first round finds what is wrong with the command line; later ones outlive what passes.
        let first = round(path, names, lifetime, readers)?;
        let mut pause = report(first, !names.is_empty(), out)?;
        loop {
            tokio::select! {
                () = stop.requested() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = match round(path, names, lifetime, readers) {
                Ok(done) => report(done, false, out)?,
                Err(error) => {
                    writeln!(out, "will try again: {}", in_one_line(&*error))?;
                    LONGEST_PAUSE
                }
            };
        }
    })
}

/// What was done for an identity, and how long it is not due again.
type Renewal = (Option<Change>, Duration);

/// Renews what is due now. One identity that cannot be renewed must not keep the others from it.
fn round(
    path: &Path,
    names: &[IdentityName],
    lifetime: Option<Duration>,
    readers: Option<Group>,
) -> Result<Vec<(IdentityName, Result<Renewal>)>> {
    let directory = Directory::open(path, OffsetDateTime::now_utc())?.read_by(readers);
    let names = match names {
        [] => directory.identities()?,
        names => names.to_vec(),
    };
    let renewed = names.into_iter().map(|name| {
        let done = renew_due(&directory, &name, lifetime);
        (name, done)
    });
    Ok(renewed.collect())
}

fn renew_due(
    directory: &Directory,
    name: &IdentityName,
    lifetime: Option<Duration>,
) -> Result<Renewal> {
    directory.share(name)?;
    let change = match directory.due(name)? <= directory.now {
        true => Some(directory.renew(name, lifetime)?),
        false => None,
    };
    if let Some(Change::Revoked(_)) = change {
        // It would be said again every minute.
        return Ok((None, LONGEST_PAUSE));
    }
    let left = directory.due(name)? - directory.now;
    Ok((change, Duration::try_from(left).unwrap_or_default()))
}

/// Says what a round did, and for how long nothing is due. When it is `strict`, an identity that cannot be renewed is an
/// error.
fn report(
    done: Vec<(IdentityName, Result<Renewal>)>,
    strict: bool,
    out: &mut dyn Write,
) -> Result<Duration> {
    let mut pause = LONGEST_PAUSE;
    for (name, done) in done {
        match done {
            Ok((change, left)) => {
                pause = pause.min(left);
                if let Some(change) = change {
                    writeln!(out, "{name:<16} {change}")?;
                }
            }
            Err(error) if strict => return Err(error),
            Err(error) => {
                writeln!(out, "{name:<16} will try again: {}", in_one_line(&*error))?;
            }
        }
    }
    out.flush()?;
    Ok(pause.max(SHORTEST_PAUSE))
}
