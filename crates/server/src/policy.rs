//! The policy file: read and held against the API at the start, and again whenever its content changes.
//!
//! Never a policy with a fault in force: the last good one stays, and the log says why.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use authz::{Api, Finding, InvalidPolicy, LivePolicy, Policy, Severity};
use telemetry::Input;
use tokio::time::sleep;
use tracing::{error, info, warn};

/// A policy that cannot be put in force. The text names the file.
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
    /// It speaks of another API than ours.
    #[error("the policy {} does not fit the API: {finding}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The first error.
        finding: Finding,
    },
}

/// Reads a policy and holds it against `api`; warnings go to the log.
///
/// # Errors
/// [`UnusablePolicy`].
pub(crate) fn load(path: &Path, api: &Api) -> Result<Policy, UnusablePolicy> {
    let text = read(path)?;
    parse(path, &text, api)
}

fn read(path: &Path) -> Result<Vec<u8>, UnusablePolicy> {
    fs::read(path).map_err(|source| UnusablePolicy::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn parse(path: &Path, text: &[u8], api: &Api) -> Result<Policy, UnusablePolicy> {
    let policy = Policy::parse(text).map_err(|source| UnusablePolicy::Invalid {
        path: path.to_owned(),
        source,
    })?;
    for finding in authz::check(&policy, api) {
        match finding.severity {
            Severity::Error => {
                return Err(UnusablePolicy::Unfit {
                    path: path.to_owned(),
                    finding,
                });
            }
            Severity::Warning => warn!(policy = %path.display(), %finding, "policy warning"),
        }
    }
    Ok(policy)
}

/// Puts each new content of the file in force, for ever, and counts what becomes of it.
pub(crate) async fn follow(
    path: PathBuf,
    api: Api,
    interval: Duration,
    live: LivePolicy,
    input: Arc<Input>,
) {
    let mut seen = read(&path).ok();
    let mut seen_is_in_force = true;
    let mut reported = None;
    loop {
        sleep(interval).await;
        let text = match read(&path) {
            Ok(text) if seen.as_ref() == Some(&text) => {
                if reported.take().is_some() && seen_is_in_force {
                    input.unchanged();
                }
                continue;
            }
            Ok(text) => text,
            Err(unreadable) => {
                // Said once per fault, not once per interval.
                let fault = unreadable.to_string();
                if reported.as_ref() != Some(&fault) {
                    error!(reason = fault, "the last good policy stays in force");
                    input.refused();
                    reported = Some(fault);
                }
                continue;
            }
        };
        reported = None;
        let parsed = parse(&path, &text, &api);
        seen_is_in_force = parsed.is_ok();
        match parsed {
            Ok(policy) => {
                let name = policy.name().to_owned();
                live.replace(policy);
                input.accepted();
                info!(
                    policy = name,
                    generation = live.generation(),
                    "policy in force"
                );
            }
            Err(unusable) => {
                input.refused();
                error!(reason = %unusable, "the last good policy stays in force");
            }
        }
        seen = Some(text);
    }
}
