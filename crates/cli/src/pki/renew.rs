//! `pki renew`: renews certificates now or, with --watch, each before it expires. That ends at a signal, between two
//! renewals.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use base::text::in_one_line;
use clap::Args;
use time::OffsetDateTime;

use super::change::{CertificateChange, report};
use super::files::Readers;
use super::{Directory, IdentityName};

/// An identity that is added meanwhile is seen after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A certificate that is due at once, again and again, must not keep a processor busy.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Renew certificates, with new keys and serial numbers and the same names and usages.
///
/// It does not renew a revoked certificate: use `issue --replace` for that.
#[derive(Debug, Args)]
pub(super) struct Renew {
    /// The identities [default: all].
    names: Vec<IdentityName>,
    /// How long the new certificates are valid [default: as long as the previous ones].
    #[arg(long, value_name = "DURATION")]
    ttl: Option<countersign::program::Duration>,
    /// Keeps running, and renews each certificate after two thirds of its lifetime.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    readers: Readers,
}

/// What was done for an identity, and how long it is not due again.
type Renewal = (Option<CertificateChange>, Duration);

impl Renew {
    pub(super) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<()> {
        if self.watch {
            return self.keep_renewing(dir, out);
        }
        let (directory, names) = self.open(dir)?;
        let renewed = names.into_iter().map(|name| {
            let change = self.renew(&directory, &name)?;
            Ok((name, change))
        });
        report(renewed, out)
    }

    /// The PKI as it is now, and whom to renew in it.
    fn open(&self, dir: &Path) -> Result<(Directory, Vec<IdentityName>)> {
        let directory = Directory::open(dir, OffsetDateTime::now_utc())?;
        let names = match &self.names[..] {
            [] => directory.identities()?,
            names => names.to_vec(),
        };
        Ok((directory.read_by(self.readers.group), names))
    }

    fn renew(&self, directory: &Directory, name: &IdentityName) -> Result<CertificateChange> {
        directory.renew(name, self.ttl.map(|ttl| ttl.0))
    }

    /// Renews each identity when it is due, until the process is asked to stop.
    fn keep_renewing(&self, dir: &Path, out: &mut dyn Write) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut stop = countersign::program::stop_signal()?;
            // The first round finds what is wrong with the command line; later ones outlive what passes.
            let strict = !self.names.is_empty();
            let mut pause = report_round(self.round(dir)?, strict, out)?;
            loop {
                tokio::select! {
                    () = stop.requested() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = match self.round(dir) {
                    Ok(done) => report_round(done, false, out)?,
                    Err(error) => {
                        writeln!(out, "will try again: {}", in_one_line(&*error))?;
                        LONGEST_PAUSE
                    }
                };
            }
        })
    }

    /// Renews what is due now. One identity that cannot be renewed must not keep the others from it.
    fn round(&self, dir: &Path) -> Result<Vec<(IdentityName, Result<Renewal>)>> {
        let (directory, names) = self.open(dir)?;
        let renewed = names.into_iter().map(|name| {
            let done = self.renew_if_due(&directory, &name);
            (name, done)
        });
        Ok(renewed.collect())
    }

    fn renew_if_due(&self, directory: &Directory, name: &IdentityName) -> Result<Renewal> {
        directory.share(name)?;
        let change = match directory.due(name)? <= directory.now {
            true => Some(self.renew(directory, name)?),
            false => None,
        };
        if let Some(CertificateChange::Revoked(_)) = change {
            // It would be said again every minute.
            return Ok((None, LONGEST_PAUSE));
        }
        let left = directory.due(name)? - directory.now;
        Ok((change, Duration::try_from(left).unwrap_or_default()))
    }
}

/// Says what a round did, and for how long nothing is due. When it is `strict`, an identity that cannot be renewed is
/// an error.
fn report_round(
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
