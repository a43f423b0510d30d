//! Which identity may call which RPC, for the tests of a service: its policy, checked against its API and its development
//! identities.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use authz::{Api, Policy};
use http::HeaderMap;
use identity::{Peer, Role};
use mtls::{Authorities, ExpiredCrls, PemFile};
use time::OffsetDateTime;

use crate::pki::{Authority, Roster, TrustDomain, Usage, Validity};

/// Why the rights are not known: the file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct RightsError(anyhow::Error);

/// A policy, the RPCs of a service, and its callers.
#[derive(Debug)]
pub struct Rights {
    policy: Policy,
    api: Api,
    peers: Vec<(String, Arc<Peer>)>,
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
        let api = countersign::server::api(descriptors).context("the descriptors");
        Ok(Self {
            policy: read_policy(policy.as_ref()).map_err(RightsError)?,
            api: api.map_err(RightsError)?,
            peers: peers(identities.as_ref()).map_err(RightsError)?,
        })
    }

    /// What is wrong with the policy, such as an RPC that no rule names; nothing, if all is well.
    pub fn findings(&self) -> Vec<String> {
        let found = authz::check(&self.policy, &self.api);
        found.iter().map(ToString::to_string).collect()
    }

    /// Each RPC, and the identities that may call it, in the order of the identities.
    pub fn table(&self) -> BTreeMap<String, Vec<String>> {
        let headers = HeaderMap::new();
        let may = |peer: &Peer, path: &str| {
            let caller = authz::Caller::from(peer);
            self.policy.decide(&caller, path, &headers).is_allowed()
        };
        let row = |path: &str| {
            let allowed = self.peers.iter().filter(|(_, peer)| may(peer, path));
            let names = allowed.map(|(name, _)| name.clone()).collect();
            (path.to_owned(), names)
        };
        self.api.paths().map(row).collect()
    }

    /// The rows in which this and what is `expected` differ, each in words.
    pub fn differences(&self, expected: &[(&str, &[&str])]) -> Vec<String> {
        let (actual, mut found) = (self.table(), Vec::new());
        for (path, names) in &actual {
            match expected.iter().find(|(row, _)| row == path) {
                None => found.push(format!("{path} is not expected; it allows {names:?}")),
                Some((_, expected)) if names == expected => {}
                Some((_, expected)) => found.push(format!(
                    "{path} is expected to allow {expected:?}, and it allows {names:?}"
                )),
            }
        }
        let unknown = expected
            .iter()
            .filter(|(path, _)| !actual.contains_key(*path));
        found.extend(unknown.map(|(path, _)| format!("{path} is no RPC")));
        found
    }

    /// An identity as handlers see it in the extensions of a request, without a connection.
    pub fn peer(&self, name: &str) -> Option<Arc<Peer>> {
        let found = self.peers.iter().find(|(known, _)| known == name);
        found.map(|(_, peer)| peer.clone())
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
