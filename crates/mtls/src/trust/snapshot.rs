//! One validated set of credentials: chain, key, roots and revocation lists that belong together.
//!
//! Our chain with its key, the roots, and the revocation lists of each issuer are replaced separately, each as a whole,
//! and verified with the others as a peer would. An invalid part does not block another.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};

use crate::crypto::{self, Digest};
use crate::refusal::Refusal;
use crate::trust::bundles::{self, Bundle};
use crate::trust::crl::CrlFacts;
use crate::trust::faults::{Fault, Part};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::lists::{self, ListInForce, Setting};
use crate::trust::material::{Material, NewLists};
use crate::trust::own_chain::OwnChain;
use crate::trust::pem_file::PemFile;
use crate::trust::revocation::{ExpiredCrls, MissingCrls, Rules};
use crate::trust::verify::Authorities;

/// Validated credentials, and the identity of their owner.
pub struct Snapshot {
    role: Role,
    generation: u64,
    own: Arc<OwnChain>,
    verdict: Result<Arc<Peer>, Refusal>,
    authorities: Arc<Authorities>,
    bundles: Vec<Arc<Bundle>>,
    pub(crate) made: Made,
}

/// What is made of a snapshot when it is first needed.
#[derive(Default)]
pub(crate) struct Made {
    rejudged: Mutex<HashMap<Digest, RejudgedChain>>,
    pub(crate) server_config: OnceLock<Arc<ServerConfig>>,
    pub(crate) client_config: OnceLock<Arc<ClientConfig>>,
}

/// The verdict about a chain. It is computed once, outside the lock around the map.
type RejudgedChain = Arc<OnceLock<Result<(), Refusal>>>;

impl Snapshot {
    /// The first snapshot. Every part must be valid, except the roots of other trust domains: until its bundle is
    /// valid, no peer of that trust domain is accepted.
    ///
    /// A server needs a certificate that its peers would accept. A client may still ask the server, which may have other
    /// roots, unless its source provides the roots of its certificate too.
    pub(crate) fn first(
        role: Role,
        material: Material,
        rules: Rules,
        now: SystemTime,
    ) -> Result<Self, InvalidCredentials> {
        if let Some(trouble) = material.trouble {
            return Err(trouble);
        }
        let contents = material.contents();
        let own = OwnChain::read(material.chain, material.key, material.id, contents.own)?;
        let ours = material.bundles.first().map(|it| it.vouches.clone());
        let mut faults = Vec::new();
        let bundles = bundles::renew(&[], material.bundles, true, &mut faults);
        for fault in faults {
            if ours.as_ref().is_some_and(|ours| fault.is_of_roots(ours)) {
                return Err(fault.error);
            }
        }
        let mut authorities = Authorities::of(bundles::roots(&bundles), rules);
        drop(own.check(role, &authorities, now, || true)?);
        let setting = Setting::new(None, own.issuers(), &authorities.roots, now);
        let (lists, faults) = lists::renew(&material.lists, &setting);
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault.error);
        }
        if rules.missing_crls == MissingCrls::Refuse {
            let roots = authorities.roots.iter().map(|root| &root.der);
            let path = &material.lists.path;
            lists::cover(&lists, own.issuers().iter().chain(roots), path)?;
        }
        authorities.lists = lists;
        let verdict = own.check(role, &authorities, now, || true)?;
        Ok(Self {
            role,
            generation: 1,
            own: Arc::new(own),
            verdict,
            authorities: Arc::new(authorities),
            bundles,
            made: Made::default(),
        })
    }

    /// The next snapshot: each part that is new and valid, and the last good content of the others. `None` when nothing
    /// changed. It is a change when our own certificate becomes acceptable again, as after a clock was corrected.
    ///
    /// An invalid part does not block a valid one, and does not weaken revocation. `roots_agree` says that the last two
    /// reads found the same roots. Only then is a root removed, since it may be missing from a file that is being
    /// written.
    pub(crate) fn next(
        &self,
        material: Material,
        roots_agree: bool,
        now: SystemTime,
    ) -> (Option<Self>, Vec<Fault>) {
        let mut faults = Vec::new();
        let contents = material.contents();
        if let Some(trouble) = material.trouble {
            faults.push(Fault::new(Part::Source, trouble));
        }
        let mut candidate = None;
        if contents.own.is_none() || contents.own != self.own.content {
            match OwnChain::read(material.chain, material.key, material.id, contents.own) {
                Ok(own) => candidate = Some(Arc::new(own)),
                Err(error) => faults.push(Fault::new(Part::Own, error)),
            }
        }
        let mut bundles = bundles::renew(&self.bundles, material.bundles, roots_agree, &mut faults);
        let rules = self.authorities.rules;
        if rules.missing_crls == MissingCrls::Refuse {
            self.keep_listed(&mut bundles, &material.lists, now, &mut faults);
        }
        let mut authorities = Authorities::of(bundles::roots(&bundles), rules);

        // The issuers in our own chain vouch for lists only if the chain itself is valid.
        candidate = candidate.filter(|own| self.takes(own, &authorities, now, &mut faults));
        let ours = candidate.iter().flat_map(|own| own.issuers());
        let ours: Vec<_> = ours.chain(self.own.issuers()).cloned().collect();
        let in_force = Some(&*self.authorities.lists);
        let setting = Setting::new(in_force, &ours, &authorities.roots, now);
        let (lists, list_faults) = lists::renew(&material.lists, &setting);
        faults.extend(list_faults);
        authorities.lists = lists;
        let own = candidate
            .filter(|own| self.takes(own, &authorities, now, &mut faults))
            .unwrap_or_else(|| self.own.clone());

        let unchanged = Arc::ptr_eq(&own, &self.own)
            && bundles::are_the_same(&bundles, &self.bundles)
            && lists::are_the_same(&authorities.lists, &self.authorities.lists);
        let verdict = own.judged(self.role, &authorities, now);
        let is_accepted_again = self.verdict.is_err() && verdict.is_ok();
        if unchanged && !is_accepted_again {
            return (None, faults);
        }
        let next = Self {
            role: self.role,
            generation: self.generation + 1,
            own,
            verdict,
            authorities: Arc::new(authorities),
            bundles,
            made: Made::default(),
        };
        (Some(next), faults)
    }

    /// Reverts each new bundle with a root that would have no revocation list.
    fn keep_listed(
        &self,
        bundles: &mut Vec<Arc<Bundle>>,
        new: &NewLists,
        now: SystemTime,
        faults: &mut Vec<Fault>,
    ) {
        let mut listed = Vec::new();
        for bundle in std::mem::take(bundles) {
            let before = self
                .bundles
                .iter()
                .find(|old| old.vouches == bundle.vouches);
            let is_in_force = before.is_some_and(|old| Arc::ptr_eq(old, &bundle));
            let in_force = Some(&*self.authorities.lists);
            let setting = Setting::new(in_force, self.own.issuers(), &bundle.roots, now);
            let roots = bundle.roots.iter().map(|root| &root.der);
            let (lists, _faults) = lists::renew(new, &setting);
            match lists::cover(&lists, roots, &new.path) {
                Err(error) if !is_in_force => {
                    faults.push(Fault::new(Part::Roots(bundle.vouches.clone()), error));
                    listed.extend(before.cloned());
                }
                Err(_) | Ok(()) => listed.push(bundle),
            }
        }
        *bundles = listed;
    }

    /// Whether `own` replaces our own certificate. Neither side replaces a valid one by an invalid one, and a server
    /// accepts no invalid one.
    fn takes(
        &self,
        own: &OwnChain,
        authorities: &Authorities,
        now: SystemTime,
        faults: &mut Vec<Fault>,
    ) -> bool {
        let ours_fails = || self.own.judged(self.role, authorities, now).is_err();
        let fault = own.check(self.role, authorities, now, ours_fails).err();
        let taken = fault.is_none();
        faults.extend(fault.map(|error| Fault::new(Part::Own, error)));
        taken
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
        let material = Material::of_files(chain, key, roots, crls);
        let rules = Rules {
            expired_crls,
            missing_crls: MissingCrls::default(),
        };
        Self::first(role, material, rules, SystemTime::now())
    }

    /// Which side of a connection these credentials are for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Counts the snapshots of one [`crate::Trust`], from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Our own certificate as a peer with the same roots would see it, or why that peer would refuse it.
    ///
    /// # Errors
    /// The refusal that such a peer would give.
    pub fn own(&self) -> Result<&Peer, &Refusal> {
        self.verdict.as_deref()
    }

    /// The roots and lists that verify the other side.
    pub fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// The revocation lists in force.
    pub fn crls(&self) -> impl ExactSizeIterator<Item = &CrlFacts> {
        self.authorities.lists.iter().map(ListInForce::facts)
    }

    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        self.own.resolver.clone()
    }

    /// Our own chain, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.own.chain
    }

    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.own.chain.first()
    }

    /// Verifies a chain that an older snapshot accepted. A thousand connections of one peer cost one verification.
    pub(crate) fn rejudge(
        &self,
        role: Role,
        chain: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let id = crypto::digest(chain.iter().map(AsRef::as_ref));
        let verdict = {
            let rejudged = &self.made.rejudged;
            let mut rejudged = rejudged.lock().unwrap_or_else(PoisonError::into_inner);
            rejudged.entry(id).or_default().clone()
        };
        let judge = || self.authorities.judge(role, chain, now);
        verdict.get_or_init(|| judge().map(drop)).clone()
    }

    /// Judges each chain again when it is asked about next: the clock was set, so what was found before may be wrong.
    pub(crate) fn forget_verdicts(&self) {
        let rejudged = &self.made.rejudged;
        rejudged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// When the next revocation list after `at` expires, if peers are refused then.
    pub(crate) fn next_stale_list(&self, at: SystemTime) -> Option<SystemTime> {
        let updates = self.crls().map(|crl| crl.next_update);
        match self.authorities.rules.expired_crls {
            ExpiredCrls::Honour => None,
            ExpiredCrls::Refuse => updates.filter(|update| *update > at).min(),
        }
    }
}

/// Without the key.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("role", &self.role)
            .field("generation", &self.generation)
            .field("own", &self.verdict)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
