//! Live credentials: the last good [`Snapshot`] of a [`Source`], kept current while anybody uses it.
//!
//! Never a moment without credentials: what is bad is reported, once, and not published.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::Role;
use telemetry::Input;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::counts::Counts;
use crate::invalid::InvalidCredentials;
use crate::snapshot::Snapshot;
use crate::source::Source;
use crate::verify::ExpiredCrls;

/// A handle to live credentials. Clones share them; the files are watched until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Trust {
    current: watch::Receiver<Arc<Snapshot>>,
    counts: Arc<Counts>,
}

/// How credentials are kept current.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// How soon a change of the files is in use, at the latest: they are read twice as often. They are compared by
    /// content, so that a swapped symbolic link counts.
    pub interval: Duration,
    /// What an expired revocation list is worth.
    pub expired_crls: ExpiredCrls,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            expired_crls: ExpiredCrls::default(),
        }
    }
}

impl Trust {
    /// Reads and validates the credentials of `role`, and watches them from then on. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`InvalidCredentials`], which names the file: at the start there is no last good set to fall back on.
    pub fn open(role: Role, source: Source, reload: Reload) -> Result<Self, InvalidCredentials> {
        let first = Arc::new(Snapshot::build(
            role,
            source.read()?,
            reload.expired_crls,
            None,
        )?);
        announce(&first);
        let (publish, current) = watch::channel(first);
        let counts = Arc::<Counts>::default();
        tokio::spawn(keep_current(source, reload, publish, counts.clone()));
        Ok(Self { current, counts })
    }

    /// The credentials to use for a connection that begins now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.borrow().clone()
    }

    /// A receiver that sees each snapshot from the current one on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.clone()
    }

    /// What became of reading the files again.
    pub fn input(&self) -> &Input {
        &self.counts.input
    }

    /// How many calls were sent again because they were provably not processed.
    pub fn resent_calls(&self) -> u64 {
        self.counts.resent.get()
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

async fn keep_current(
    source: Source,
    reload: Reload,
    publish: watch::Sender<Arc<Snapshot>>,
    counts: Arc<Counts>,
) {
    // What failed last, so that one fault is one line however often it is met.
    let mut reported = None;
    loop {
        tokio::select! {
            () = publish.closed() => return,
            () = tokio::time::sleep(reload.interval / 2) => {}
        }
        let before = publish.borrow().clone();
        let (source, expired_crls) = (source.clone(), reload.expired_crls);
        let read = tokio::task::spawn_blocking(move || next(&source, expired_crls, &before)).await;
        match read {
            Ok(Ok(Some(snapshot))) => {
                announce(&snapshot);
                publish.send_replace(Arc::new(snapshot));
                counts.input.accepted();
                reported = None;
            }
            Ok(Ok(None)) => {
                counts.input.unchanged();
                reported = None;
            }
            Ok(Err(fault)) => {
                let (code, fault) = (fault.code(), fault.to_string());
                if reported.as_ref() != Some(&fault) {
                    error!(
                        code,
                        reason = fault,
                        "new credentials refused; the last good ones stay in use"
                    );
                    counts.input.refused();
                    reported = Some(fault);
                }
            }
            Err(panicked) => {
                counts.input.refused();
                error!(%panicked, "reading credentials failed; the last good ones stay in use");
            }
        }
    }
}

fn next(
    source: &Source,
    expired_crls: ExpiredCrls,
    current: &Snapshot,
) -> Result<Option<Snapshot>, InvalidCredentials> {
    let material = source.read()?;
    if material.digest == current.digest() {
        return Ok(None);
    }
    Snapshot::build(current.role(), material, expired_crls, Some(current)).map(Some)
}

fn announce(snapshot: &Snapshot) {
    let generation = snapshot.generation();
    match snapshot.own() {
        Ok(own) => info!(
            generation,
            identity = %own,
            serial = own.serial(),
            not_after = crate::text::timestamp(own.not_after()),
            crls = snapshot.crls().len(),
            "credentials in use"
        ),
        Err(refusal) => warn!(
            generation,
            code = refusal.code(),
            reason = %refusal,
            "credentials in use, though peers with the same roots would refuse our certificate"
        ),
    }
    let now = SystemTime::now();
    for crl in snapshot.crls().iter().filter(|crl| crl.next_update < now) {
        warn!(
            issuer = crl.issuer,
            next_update = crate::text::timestamp(crl.next_update),
            "a revocation list has expired: publish a current one"
        );
    }
}
