//! Live credentials: the last good [`Snapshot`] of a [`Source`], kept current while it is in use.
//!
//! A part that is invalid is reported once and not published; the valid parts are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base::reload::{Input, on_a_thread};
use identity::Role;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::counts::TransportCounts;
use crate::events;
use crate::trust::crl_state::CrlState;
use crate::trust::faults::{Fault, Faults, Part};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::material::Digests;
use crate::trust::no_subscriber;
use crate::trust::revocation::{ExpiredCrls, MissingCrls, Rules};
use crate::trust::snapshot::Snapshot;
use crate::trust::source::{Feed, Source};

/// How long unchanged files are not checked again. They are checked later because their content may become valid, or a
/// handshake may have shown that a list is forged.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often the wall clock is compared with the monotonic one, and the difference that makes it set. Connections sleep
/// by the monotonic clock until a certificate expires, so they are woken when the wall clock was set.
const CLOCK_INTERVAL: Duration = Duration::from_millis(500);
const CLOCK_SET: Duration = Duration::from_millis(100);

/// A handle to live credentials. Clones share them; the files are watched until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Trust {
    current: watch::Receiver<Arc<Snapshot>>,
    counts: Arc<TransportCounts>,
}

/// How credentials are kept current.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The longest time until a change of the files is in use; they are read three times as often. They are compared by
    /// content, so a swapped symbolic link counts.
    pub interval: Duration,
    /// Whether an expired revocation list still counts.
    pub expired_crls: ExpiredCrls,
    /// What it means that an issuer has no revocation list.
    pub missing_crls: MissingCrls,
    /// A file that records the newest revocation list of each issuer, so that no older one is accepted after a restart.
    /// It belongs to one process, whose credentials share it.
    pub crl_state: Option<PathBuf>,
    /// Compare lists with `crl_state`, and record none: for a check beside the process that the file belongs to. It holds
    /// for all credentials of this process with that file.
    pub keep_crl_state: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            expired_crls: ExpiredCrls::default(),
            missing_crls: MissingCrls::default(),
            crl_state: None,
            keep_crl_state: false,
        }
    }
}

impl Trust {
    /// Reads and validates the credentials of `role`, and watches them from then on. Call it within a tokio runtime. It
    /// blocks while files are read, and until an agent has responded or the wait for it has timed out.
    ///
    /// # Errors
    /// [`InvalidCredentials`], which names the file: at the start there is no last good set to fall back on.
    pub fn open(role: Role, source: Source, reload: Reload) -> Result<Self, InvalidCredentials> {
        let Reload {
            interval,
            expired_crls,
            missing_crls,
            crl_state,
            keep_crl_state,
        } = reload;
        let state = crl_state.map(|path| CrlState::open(path, keep_crl_state));
        let state = state.transpose()?;
        let feed = source.open()?;
        let rules = Rules {
            expired_crls,
            missing_crls,
        };
        let first = Snapshot::first(role, feed.read(), rules, SystemTime::now())?;
        let first = Arc::new(first);
        if let Some(state) = &state {
            let authorities = first.authorities();
            state.check(&authorities.lists, &authorities.roots)?;
            state.record(&authorities.lists)?;
        }
        announce(&first);
        let (publish, current) = watch::channel(first);
        let counts = Arc::<TransportCounts>::default();
        let publish = Arc::new(publish);
        tokio::spawn(watch_clock(publish.clone()));
        if role == Role::Server {
            // Later, since a program may set up its log after its credentials.
            tokio::spawn(async move {
                tokio::time::sleep(interval).await;
                no_subscriber::warn_once();
            });
        }
        tokio::spawn(keep_current(feed, interval, state, publish, counts.clone()));
        Ok(Self { current, counts })
    }

    /// The credentials to use for a connection that begins now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.borrow().clone()
    }

    /// The same credentials, with counts of their own: for connections that are not to be seen among those of the
    /// service.
    pub fn apart(&self) -> Self {
        Self {
            current: self.current.clone(),
            counts: Arc::default(),
        }
    }

    /// A receiver that sees each snapshot from the current one on, and the current one again when the wall clock was
    /// set.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.clone()
    }

    /// The results of reading the files again.
    pub fn input(&self) -> Arc<Input> {
        self.counts.input.clone()
    }

    /// How many calls were resent because they were provably not processed.
    pub fn resent_calls(&self) -> u64 {
        self.counts.resent.get()
    }

    pub(crate) fn counts(&self) -> &Arc<TransportCounts> {
        &self.counts
    }
}

async fn keep_current(
    feed: Feed,
    interval: Duration,
    state: Option<CrlState>,
    publish: Arc<watch::Sender<Arc<Snapshot>>>,
    counts: Arc<TransportCounts>,
) {
    let mut faults = Faults::default();
    let mut last = None;
    loop {
        tokio::select! {
            () = publish.closed() => return,
            // A root is removed at the second read that misses it, and still within the interval.
            () = tokio::time::sleep(interval / 3) => {}
        }
        let before = publish.borrow().clone();
        let (feed, state) = (feed.clone(), state.clone());
        let reading = on_a_thread(
            "credentials",
            interval,
            move || look(&feed, state.as_ref(), &before, last),
            || {
                warn!("{}", events::CREDENTIALS_READ_SLOW);
                counts.input.refused();
            },
        );
        let looked = tokio::select! {
            () = publish.closed() => return,
            looked = reading => looked,
        };
        let Some(looked) = looked else {
            counts.input.refused();
            error!("{}", events::CREDENTIALS_READ_FAILED);
            continue;
        };
        last = Some(looked.last);
        match looked.found {
            Some((snapshot, found)) => {
                let was_lost = faults.was_said_of(&Part::Source);
                faults.found(found);
                if was_lost && !faults.was_said_of(&Part::Source) {
                    info!("{}", events::SOURCE_AVAILABLE);
                }
                if let Some(snapshot) = snapshot {
                    announce(&snapshot);
                    publish.send_replace(Arc::new(snapshot));
                    counts.input.accepted();
                }
            }
            None => faults.found_again(),
        }
        for Fault { part, error } in faults.take_due() {
            let (code, reason) = (error.code(), error.to_string());
            match part {
                Part::Source => error!(code, reason, "{}", events::SOURCE_UNAVAILABLE),
                Part::CrlState => error!(code, reason, "{}", events::CRL_STATE_NOT_WRITTEN),
                Part::Own | Part::Roots(_) | Part::Lists | Part::ListOf(_) => {
                    error!(code, reason, "{}", events::CREDENTIALS_REFUSED)
                }
            }
            counts.input.refused();
        }
        if faults.are_gone() {
            counts.input.unchanged();
        } else {
            counts.input.still_refused();
        }
    }
}

/// Publishes the current snapshot again when the wall clock was set, also after the machine was suspended.
async fn watch_clock(publish: Arc<watch::Sender<Arc<Snapshot>>>) {
    let mut last = (Instant::now(), SystemTime::now());
    loop {
        tokio::select! {
            () = publish.closed() => return,
            () = tokio::time::sleep(CLOCK_INTERVAL) => {}
        }
        let expected = last.1 + last.0.elapsed();
        let now = SystemTime::now();
        let difference = match now.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        if difference > CLOCK_SET {
            last = (Instant::now(), now);
            publish.send_modify(|snapshot| snapshot.forget_verdicts());
        }
    }
}

/// What the last check of the files saw.
#[derive(Clone, Copy)]
struct Look {
    contents: Digests,
    roots_agree: bool,
    at: Instant,
}

struct Looked {
    last: Look,
    /// `None` when nothing changed since the last check.
    found: Option<(Option<Snapshot>, Vec<Fault>)>,
}

/// Reads the files, and checks their content if the result may differ from the last one.
fn look(feed: &Feed, state: Option<&CrlState>, current: &Snapshot, last: Option<Look>) -> Looked {
    let material = feed.read();
    let contents = material.contents();
    let roots_agree =
        feed.is_whole() || last.is_some_and(|last| last.contents.roots == contents.roots);
    let seen = last.filter(|last| {
        last.contents == contents
            && last.roots_agree == roots_agree
            && last.at.elapsed() < LOOK_AGAIN
    });
    if let Some(last) = seen {
        return Looked { last, found: None };
    }
    let (next, mut faults) = current.next(material, roots_agree, SystemTime::now());
    if let Some(state) = state {
        // Before they are in use, so that a restart after a crash knows them.
        let lists = &next.as_ref().unwrap_or(current).authorities().lists;
        let recorded = state.record(lists).err();
        faults.extend(recorded.map(|error| Fault::new(Part::CrlState, error)));
    }
    Looked {
        last: Look {
            contents,
            roots_agree,
            at: Instant::now(),
        },
        found: Some((next, faults)),
    }
}

fn announce(snapshot: &Snapshot) {
    let generation = snapshot.generation();
    match snapshot.own() {
        Ok(own) => info!(
            generation,
            identity = %own,
            serial = own.serial(),
            not_after = base::text::timestamp(own.not_after()),
            crls = snapshot.crls().len(),
            "{}", events::CREDENTIALS_IN_USE
        ),
        Err(refusal) => warn!(
            generation,
            code = refusal.code(),
            reason = %refusal,
            "{}", events::OWN_CERTIFICATE_REFUSED
        ),
    }
    for issuer in snapshot.authorities().unknown_list_issuers() {
        warn!(issuer, "{}", events::CRL_ISSUER_UNKNOWN);
    }
    let now = SystemTime::now();
    for crl in snapshot.crls().filter(|crl| crl.next_update < now) {
        warn!(
            issuer = crl.issuer,
            next_update = base::text::timestamp(crl.next_update),
            "{}",
            events::CRL_EXPIRED
        );
    }
}
