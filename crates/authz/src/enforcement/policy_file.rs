//! The policy file: read and checked against the API at the start, and again whenever its content changes.
//!
//! An invalid policy does not come into force: the last good one stays, and the log says why.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::api::Api;
use base::reload::{Input, on_a_thread};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::enforcement::live::LivePolicy;
use crate::events;
use crate::lint::check::check;
use crate::lint::finding::{Finding, Severity};
use crate::policy::compiled::Policy;
use crate::policy::invalid::InvalidPolicy;

/// A policy that cannot come into force. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePolicy {
    /// The file cannot be read.
    #[error("cannot read the policy {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a policy.
    #[error("the policy {} is not valid: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidPolicy,
    },
    /// It does not fit the API.
    #[error("the policy {} does not fit the API: {finding}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The first error.
        finding: Finding,
    },
}

/// A policy file, its last content, and the policy in force.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    api: Arc<Api>,
    /// What was last read, in force or refused.
    seen: Arc<[u8]>,
    live: LivePolicy,
}

impl PolicyFile {
    /// Reads a policy, checks it against `api` and puts it in force; warnings go to the log.
    ///
    /// # Errors
    /// [`UnusablePolicy`].
    pub fn open(path: &Path, api: &Arc<Api>) -> Result<Self, UnusablePolicy> {
        let seen: Arc<[u8]> = read(path)?.into();
        let policy = parse(path, &seen, api)?;
        Ok(Self {
            path: path.to_owned(),
            api: Arc::clone(api),
            seen,
            live: LivePolicy::new(policy),
        })
    }

    /// The policy in force.
    pub fn live(&self) -> &LivePolicy {
        &self.live
    }

    /// Puts each new content of the file in force, and counts the results. It does not return.
    pub async fn follow(mut self, interval: Duration, input: Arc<Input>) {
        let mut seen_is_in_force = true;
        let mut unreadable = None::<String>;
        loop {
            sleep(interval / 2).await;
            let late = || {
                warn!("{}", events::POLICY_READ_SLOW);
                input.refused();
                // A successful read resets it.
                unreadable.get_or_insert_default();
            };
            let reread = self.reread(interval, late).await;
            match reread {
                Reread::Same => {
                    if unreadable.take().is_some() && seen_is_in_force {
                        input.unchanged();
                    }
                }
                Reread::Failed(fault) => {
                    // Logged once per fault, not once per interval.
                    if unreadable.as_ref() != Some(&fault) {
                        error!(reason = fault, "{}", events::POLICY_REFUSED);
                        input.refused();
                        unreadable = Some(fault);
                    }
                }
                Reread::New(text, parsed) => {
                    unreadable = None;
                    seen_is_in_force = parsed.is_ok();
                    self.seen = text;
                    match parsed {
                        Ok(policy) => {
                            let name = policy.name().to_owned();
                            let generation = self.live.replace(*policy);
                            input.accepted();
                            info!(policy = name, generation, "{}", events::POLICY_IN_FORCE);
                        }
                        Err(unusable) => {
                            input.refused();
                            error!(reason = %unusable, "{}", events::POLICY_REFUSED);
                        }
                    }
                }
            }
        }
    }

    /// On another thread: the file system may be slow, and so may the checks of a large policy.
    async fn reread(&self, interval: Duration, late: impl FnOnce()) -> Reread {
        let (path, api, seen) = (
            self.path.clone(),
            Arc::clone(&self.api),
            Arc::clone(&self.seen),
        );
        let work = move || match read(&path) {
            Err(unreadable) => Reread::Failed(unreadable.to_string()),
            Ok(text) if *text == *seen => Reread::Same,
            Ok(text) => {
                let parsed = parse(&path, &text, &api).map(Box::new);
                Reread::New(text.into(), parsed)
            }
        };
        on_a_thread("policy", interval, work, late)
            .await
            .unwrap_or_else(|| Reread::Failed("reading the policy failed".to_owned()))
    }
}

/// The file's content, compared with the last one.
enum Reread {
    Same,
    /// It cannot be read, or reading it panicked.
    Failed(String),
    New(Arc<[u8]>, Result<Box<Policy>, UnusablePolicy>),
}

fn read(path: &Path) -> Result<Vec<u8>, UnusablePolicy> {
    base::file::read(path, Policy::MAX_BYTES).map_err(|source| UnusablePolicy::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn parse(path: &Path, text: &[u8], api: &Api) -> Result<Policy, UnusablePolicy> {
    let policy = Policy::parse(text).map_err(|source| UnusablePolicy::Invalid {
        path: path.to_owned(),
        source,
    })?;
    for finding in check(&policy, api) {
        match finding.severity {
            Severity::Error => {
                return Err(UnusablePolicy::Unfit {
                    path: path.to_owned(),
                    finding,
                });
            }
            Severity::Warning => {
                warn!(policy = %path.display(), %finding, "{}", events::POLICY_WARNING)
            }
        }
    }
    Ok(policy)
}
