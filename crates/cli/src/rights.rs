//! Which identity may call which RPC, for the tests of a service: its policy, checked against its API and its development
//! identities.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use authz::{Api, Caller, Policy};
use http::HeaderMap;
use identity::{Peer, Role};
use mtls::{Authorities, ExpiredCrls, PemFile};
use time::OffsetDateTime;

use crate::pki::{Authority, Roster, TrustDomain, Usage, Validity};

/// What is wrong with the rights of a service: the file, and in each line one fault. A test that returns it shows that.
#[derive(thiserror::Error)]
#[error("{0}")]
pub struct RightsError(String);

/// The same as [`fmt::Display`], because a test that returns an error shows it by `Debug`.
impl fmt::Debug for RightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<anyhow::Error> for RightsError {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// A policy, the RPCs of a service, and its callers.
#[derive(Debug)]
pub struct Rights {
    policy: Policy,
    policy_file: String,
    api: Api,
    peers: Vec<(String, Arc<Peer>)>,
    peers_file: String,
}

impl Rights {
    /// Reads the policy and the identities (a file such as `certs/dev.toml`). Each identity that may be a client gets a
    /// certificate that never leaves this process. `descriptors` is the API, an encoded
    /// `google.protobuf.FileDescriptorSet`; health and reflection are added to it.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn read(
        policy: impl AsRef<Path>,
        descriptors: &[u8],
        identities: impl AsRef<Path>,
    ) -> Result<Self, RightsError> {
        let (policy, identities) = (policy.as_ref(), identities.as_ref());
        let api = countersign::server::api(descriptors).context("the descriptors")?;
        Ok(Self {
            policy: read_policy(policy)?,
            policy_file: policy.display().to_string(),
            api,
            peers: peers(identities)?,
            peers_file: identities.display().to_string(),
        })
    }

    /// Checks the policy: against the API, and for principals that are almost the name of an identity.
    ///
    /// # Errors
    /// Each likely mistake, such as an RPC that no rule names.
    pub fn check_policy(&self) -> Result<(), RightsError> {
        let found = authz::check(&self.policy, &self.api);
        let mut faults: Vec<_> = found.iter().map(ToString::to_string).collect();
        let callers = self.peers.iter().map(|(_, peer)| Caller::from(peer));
        let callers: Vec<_> = callers.collect();
        let known: Vec<_> = callers
            .iter()
            .flat_map(|it| it.identity().names())
            .collect();
        for principal in self.policy.principals() {
            let distances = known.iter();
            let distances = distances.map(|name| (strsim::levenshtein(name, &principal), name));
            let nearest = distances.min();
            if let Some((1..=MAX_TYPOS, nearest)) = nearest {
                let file = &self.peers_file;
                faults.push(format!(
                    "no identity of {file} has the name {principal:?}; did you mean {nearest:?}?"
                ));
            }
        }
        let faults = faults
            .iter()
            .map(|fault| format!("{}: {fault}", self.policy_file));
        none_of(&faults.collect::<Vec<_>>())
    }

    /// Each RPC, and the identities that may call it, in the order of the identities.
    pub fn table(&self) -> BTreeMap<String, Vec<String>> {
        let headers = HeaderMap::new();
        let may = |peer: &Peer, path: &str| {
            let caller = Caller::from(peer);
            self.policy.decide(&caller, path, &headers).is_allowed()
        };
        let row = |path: &str| {
            let allowed = self.peers.iter().filter(|(_, peer)| may(peer, path));
            let names = allowed.map(|(name, _)| name.clone()).collect();
            (path.to_owned(), names)
        };
        self.api.paths().map(row).collect()
    }

    /// Checks that each RPC has a row in `expected`, with the identities that the policy allows to call it.
    ///
    /// # Errors
    /// Each row that differs.
    pub fn check_table(&self, expected: &[(&str, &[&str])]) -> Result<(), RightsError> {
        let (actual, mut faults) = (self.table(), Vec::new());
        for (path, names) in &actual {
            let names = names.join(", ");
            match expected.iter().find(|(row, _)| row == path) {
                None => faults.push(format!(
                    "{path}: no row in the table; the policy allows [{names}]"
                )),
                Some((_, row)) if row.join(", ") == names => {}
                Some((_, row)) => faults.push(format!(
                    "{path}: the table allows [{}], and the policy [{names}]",
                    row.join(", ")
                )),
            }
        }
        for (path, row) in expected {
            if !actual.contains_key(*path) {
                let hint = self
                    .api
                    .nearest(path)
                    .map(|path| format!("; did you mean {path}?"));
                faults.push(format!(
                    "{path}: a row in the table, and no RPC of the contract{}",
                    hint.unwrap_or_default()
                ));
            }
            for name in row.iter().filter(|name| self.peer(name).is_err()) {
                let file = &self.peers_file;
                faults.push(format!(
                    "{path}: {file} has no client {name:?}, who is in the table"
                ));
            }
        }
        none_of(&faults)
    }

    /// An identity as handlers see it in the extensions of a request, without a connection.
    ///
    /// # Errors
    /// There is no client of this name.
    pub fn peer(&self, name: &str) -> Result<Arc<Peer>, RightsError> {
        let found = self.peers.iter().find(|(known, _)| known == name);
        let none = || RightsError(format!("{} has no client {name:?}", self.peers_file));
        found.map(|(_, peer)| peer.clone()).ok_or_else(none)
    }
}

/// More typos than these make it another name.
const MAX_TYPOS: usize = 2;

fn none_of(faults: &[String]) -> Result<(), RightsError> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(RightsError(faults.join("\n"))),
    }
}

fn read_policy(file: &Path) -> Result<Policy> {
    let named = || file.display().to_string();
    let text = base::file::read(file, Policy::MAX_BYTES).with_context(named)?;
    Policy::parse(&text).with_context(named)
}

fn peers(file: &Path) -> Result<Vec<(String, Arc<Peer>)>> {
    let roster = Roster::read(file, &TrustDomain::default())?;
    let validity = Validity::starting(OffsetDateTime::now_utc(), Duration::from_secs(3600))?;
    let root = Authority::root("Tests", validity)?;
    let anchor = PemFile::new("ca.crt", root.certificate_pem().into());
    let authorities = Authorities::of_files(&[anchor], &[], &[], ExpiredCrls::default())?;
    let callers = roster
        .entries()
        .filter(|(_, request)| match request.usage() {
            Usage::Client | Usage::Both => true,
            Usage::Server => false,
        });
    callers
        .map(|(name, request)| {
            let leaf = root.issue(&request.spec(validity))?;
            let peer = authorities.judge(Role::Client, &leaf.chain, SystemTime::now())?;
            Ok((name.to_string(), peer))
        })
        .collect()
}
