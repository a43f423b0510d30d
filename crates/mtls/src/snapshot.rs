//! One validated set of credentials: chain, key, roots and revocation lists that belong together.
//!
//! Never half a set: everything is parsed and held against everything else before a [`Snapshot`] exists.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::crl::CrlFacts;
use crate::crypto::{self, Digest};
use crate::invalid::InvalidCredentials;
use crate::pem_file::PemFile;
use crate::source::Material;
use crate::verify::{Authorities, ExpiredCrls, Refusal};

/// Credentials that were found to be in order, and what they say about their owner.
pub struct Snapshot {
    role: Role,
    generation: u64,
    digest: Digest,
    chain: Vec<CertificateDer<'static>>,
    resolver: Arc<SingleCertAndKey>,
    authorities: Arc<Authorities>,
    crl_facts: Vec<CrlFacts>,
    own: Result<Peer, Refusal>,
    rejudged: Mutex<HashMap<Digest, Verdict>>,
}

/// What was found of a chain, once; the lock around all of them is not held meanwhile.
type Verdict = Arc<OnceLock<Result<(), Refusal>>>;

impl Snapshot {
    /// Parses and validates what was read. `previous` is what it would replace.
    ///
    /// A server needs a certificate that its peers would believe. A client may go and ask the server, which knows
    /// better; but neither side replaces a good leaf by one that fails.
    pub(crate) fn build(
        role: Role,
        material: Material,
        expired_crls: ExpiredCrls,
        previous: Option<&Self>,
    ) -> Result<Self, InvalidCredentials> {
        let chain = material.chain.chain()?;
        let certified = certified_key(&material, chain.clone())?;
        let mut authorities = Authorities::with_roots([&material.roots], expired_crls)?;
        let own = authorities.judge(role, &chain, SystemTime::now());
        let leaf_is_new = previous.is_none_or(|previous| previous.chain.first() != chain.first());
        if let Err(refusal) = &own {
            let previous_is_good = previous.is_some_and(|previous| previous.own.is_ok());
            if leaf_is_new && (role == Role::Server || previous_is_good) {
                return Err(InvalidCredentials::SelfCheck {
                    path: material.chain.path,
                    refusal: refusal.clone(),
                });
            }
        }

        let mut crl_facts = authorities.add_crls(material.crls.as_ref(), &chain)?;
        let in_force = previous.map_or(&[][..], |previous| &previous.crl_facts);
        let crls = material
            .crls
            .map_or_else(|| PathBuf::from("crl.pem"), |crls| crls.path);
        for (index, facts) in crl_facts.iter_mut().enumerate() {
            facts
                .replace(in_force)
                .map_err(|source| InvalidCredentials::Crl {
                    path: crls.clone(),
                    position: index + 1,
                    source,
                })?;
        }
        let lost = in_force.iter().find(|before| {
            let replaced = crl_facts.iter().any(|crl| crl.covers_the_same_as(before));
            !replaced && !before.may_go(&authorities.roots)
        });
        if let Some(lost) = lost {
            return Err(InvalidCredentials::CrlGone {
                path: crls,
                issuer: lost.issuer.clone(),
            });
        }

        Ok(Self {
            role,
            generation: previous.map_or(1, |previous| previous.generation + 1),
            digest: material.digest,
            chain,
            resolver: Arc::new(SingleCertAndKey::from(certified)),
            authorities: Arc::new(authorities),
            crl_facts,
            own,
            rejudged: Mutex::default(),
        })
    }

    /// Validates the contents of files as [`crate::Trust::open`] does, without watching any.
    ///
    /// # Errors
    /// [`InvalidCredentials`], which names the file.
    pub fn of_files(
        role: Role,
        chain: PemFile,
        key: PemFile,
        roots: PemFile,
        crls: Option<PemFile>,
        expired_crls: ExpiredCrls,
    ) -> Result<Self, InvalidCredentials> {
        let material = Material::new(chain, key, roots, crls);
        Self::build(role, material, expired_crls, None)
    }

    /// Which side of a connection these credentials are for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Counts the snapshots of one [`crate::Trust`], from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Our own certificate as a peer with the same roots would see it, or why it would not believe it.
    ///
    /// # Errors
    /// The refusal that such a peer would give.
    pub fn own(&self) -> Result<&Peer, &Refusal> {
        self.own.as_ref()
    }

    /// What decides about the other side.
    pub fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// The revocation lists in force.
    pub fn crls(&self) -> &[CrlFacts] {
        &self.crl_facts
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        self.resolver.clone()
    }

    /// Our own chain, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// Judges a chain that an older snapshot believed. A thousand connections of one peer cost one verification.
    pub(crate) fn rejudge(
        &self,
        role: Role,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), Refusal> {
        let id = crypto::digest(chain.iter().map(AsRef::as_ref));
        let verdict = {
            let mut rejudged = self.rejudged.lock().unwrap_or_else(PoisonError::into_inner);
            rejudged.entry(id).or_default().clone()
        };
        let judge = || self.authorities.judge(role, chain, SystemTime::now());
        verdict.get_or_init(|| judge().map(drop)).clone()
    }

    /// When the next revocation list after `at` goes stale, if that ends anybody's right to be believed.
    pub(crate) fn next_stale_list(&self, at: SystemTime) -> Option<SystemTime> {
        let updates = self.crl_facts.iter().map(|crl| crl.next_update);
        match self.authorities.expired_crls {
            ExpiredCrls::Honour => None,
            ExpiredCrls::Refuse => updates.filter(|update| *update > at).min(),
        }
    }
}

/// Never the key.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("role", &self.role)
            .field("generation", &self.generation)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

fn certified_key(
    material: &Material,
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, InvalidCredentials> {
    let path = || material.key.path.clone();
    let key = material.key.private_key()?;
    CertifiedKey::from_der(chain, key, crypto::provider()).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            return InvalidCredentials::KeyMismatch {
                key: path(),
                chain: material.chain.path.clone(),
            };
        }
        InvalidCredentials::UnusableKey {
            path: path(),
            reason: error.to_string(),
        }
    })
}
