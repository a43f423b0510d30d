//! `pki renew --watch`: certificates that never get old. Ends at a signal, and never in the middle of a
//! renewal.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use super::command::{PkiError, report};
use super::operations::{self, Outcome};
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
        let mut stop = app::stop_signal()?;
        // The first round finds what is wrong with the command line; later ones outlive what passes.
        let mut pause = round(path, names, lifetime, out)?;
        loop {
            tokio::select! {
                () = stop.requested() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = match round(path, names, lifetime, out) {
                Ok(pause) => pause,
                Err(PkiError::Output(closed)) => return Err(closed.into()),
                Err(error) => {
                    writeln!(out, "will try again: {}", app::exit::in_one_line(&error))?;
                    LONGEST_PAUSE
                }
            };
        }
    })
}

/// Renews what is due now, and says how long nothing else will be.
fn round(
    path: &Path,
    names: &[IdentityName],
    lifetime: Option<Duration>,
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
        if operations::due(&directory, &name)? <= now {
            match operations::renew(&directory, &name, lifetime, now)? {
                // It would be said again every minute.
                Outcome::Revoked(_) => continue,
                outcome @ (Outcome::Kept(_) | Outcome::Issued(_) | Outcome::Replaced(..)) => {
                    report(out, &name, &outcome)?;
                }
            }
        }
        let left = operations::due(&directory, &name)? - now;
        pause = pause.min(Duration::try_from(left).unwrap_or_default());
    }
    out.flush()?;
    Ok(pause.max(SHORTEST_PAUSE))
}
