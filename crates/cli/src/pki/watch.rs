//! `pki renew --watch`: renews certificates before they expire. It ends at a signal, between two renewals.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use super::error::PkiError;
use super::operations::{self, Change};
use super::report::report;
use super::{Directory, IdentityName};

/// An identity that is added meanwhile is seen after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A certificate that is due at once, again and again, must not keep a processor busy.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Renews each identity when it is due, those of `names` or else all, until the process is asked to stop.
pub(super) fn renew(
    path: &Path,
    names: &[IdentityName],
    lifetime: Option<Duration>,
    out: &mut dyn Write,
) -> Result<(), PkiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = countersign::program::stop_signal()?;
        // The first round finds what is wrong with the command line; later ones outlive what passes.
        let mut pause = round(path, names, lifetime, !names.is_empty(), out)?;
        loop {
            tokio::select! {
                () = stop.requested() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = match round(path, names, lifetime, false, out) {
                Ok(pause) => pause,
                Err(PkiError::Output(closed)) => return Err(closed.into()),
                Err(error) => {
                    writeln!(out, "will try again: {}", base::text::in_one_line(&error))?;
                    LONGEST_PAUSE
                }
            };
        }
    })
}

/// Renews what is due now, and says how long nothing else will be. One identity that cannot be renewed must not keep the
/// others from it, unless the round is `strict`.
fn round(
    path: &Path,
    names: &[IdentityName],
    lifetime: Option<Duration>,
    strict: bool,
    out: &mut dyn Write,
) -> Result<Duration, PkiError> {
    let now = OffsetDateTime::now_utc();
    let directory = Directory::open(path, now)?;
    let all = if names.is_empty() {
        directory.identities()?
    } else {
        names.to_vec()
    };
    let mut pause = LONGEST_PAUSE;
    for name in all {
        match renew_due(&directory, &name, lifetime, now, out) {
            Ok(left) => pause = pause.min(left),
            Err(error) if strict || matches!(error, PkiError::Output(_)) => return Err(error),
            Err(error) => {
                let error = base::text::in_one_line(&error);
                writeln!(out, "{name:<16} will try again: {error}")?;
            }
        }
    }
    out.flush()?;
    Ok(pause.max(SHORTEST_PAUSE))
}

/// Renews one identity if it is due, and says how long it will not be again.
fn renew_due(
    directory: &Directory,
    name: &IdentityName,
    lifetime: Option<Duration>,
    now: OffsetDateTime,
    out: &mut dyn Write,
) -> Result<Duration, PkiError> {
    if operations::due(directory, name)? <= now {
        match operations::renew(directory, name, lifetime, now)? {
            // It would be said again every minute.
            Change::Revoked(_) => return Ok(LONGEST_PAUSE),
            change @ (Change::Kept(_) | Change::Issued(_) | Change::Replaced(..)) => {
                report(out, name, &change)?;
            }
        }
    }
    let left = operations::due(directory, name)? - now;
    Ok(Duration::try_from(left).unwrap_or_default())
}
