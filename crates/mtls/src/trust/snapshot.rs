//! One validated set of credentials: chain, key, roots and revocation lists that belong together.
//!
//! Never half a part, and no fault that holds back another part: our chain with its key, the roots, and the revocation
//! lists of each issuer are replaced each by itself, held against the others as a peer would.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::crypto::{self, Digest};
use crate::refusal::Refusal;
use crate::trust::configurations::Configurations;
use crate::trust::crl::CrlFacts;
use crate::trust::faults::{Fault, Part};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::issuers::Issuers;
use crate::trust::lists::{self, ListInForce, Setting};
use crate::trust::pem_file::PemFile;
use crate::trust::root::Root;
use crate::trust::source::Material;
use crate::trust::unreadable::Unreadable;
use crate::trust::verify::{Authorities, ExpiredCrls};

/// Credentials that were found to be in order, and what they say about their owner.
pub struct Snapshot {
    role: Role,
    generation: u64,
    own: Arc<Own>,
    verdict: Result<Peer, Refusal>,
    authorities: Arc<Authorities>,
    roots_content: Digest,
    rejudged: Mutex<HashMap<Digest, RejudgedChain>>,
    configurations: Configurations,
}

/// Our chain and its key, which are replaced as one.
struct Own {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    resolver: Arc<SingleCertAndKey>,
    content: Option<Digest>,
}

/// The roots of a file, and its content.
type NewRoots = (Arc<[Root]>, Digest);

/// What was found of a chain, once; the lock around all of them is not held meanwhile.
type RejudgedChain = Arc<OnceLock<Result<(), Refusal>>>;

impl Snapshot {
    /// The first one, of which every part must be good.
    ///
    /// A server needs a certificate that its peers would believe. A client may go and ask the server, which knows
    /// better.
    pub(crate) fn first(
        role: Role,
        material: Material,
        expired_crls: ExpiredCrls,
    ) -> Result<Self, InvalidCredentials> {
        let contents = material.contents();
        let own = Own::read(material.chain, material.key, contents.own)?;
        let roots_file = material.roots?;
        let mut authorities = Authorities {
            roots: roots_file.roots()?.into(),
            lists: Vec::new(),
            expired_crls,
        };
        let must_be_believed = |verdict: &Result<Peer, Refusal>| match verdict {
            Err(refusal) if role == Role::Server => Err(own.refused(refusal)),
            Err(_) | Ok(_) => Ok(()),
        };
        must_be_believed(&own.judged(role, &authorities))?;
        let (lists, faults) = {
            let setting = Setting {
                in_force: None,
                issuers: &Issuers::new(own.issuers(), &authorities.roots),
                roots: &authorities.roots,
                now: SystemTime::now(),
            };
            lists::renew(material.crls, &setting)
        };
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault.error);
        }
        authorities.lists = lists;
        let verdict = own.judged(role, &authorities);
        must_be_believed(&verdict)?;
        Ok(Self {
            role,
            generation: 1,
            own: Arc::new(own),
            verdict,
            authorities: Arc::new(authorities),
            roots_content: roots_file.digest(),
            rejudged: Mutex::default(),
            configurations: Configurations::default(),
        })
    }

    /// What takes the place of this one: each part that is new and good, and the last good one of each that is not.
    /// `None` when nothing is new.
    ///
    /// No fault holds back what is sound, and none loosens revocation. `roots_agree` says that the last read found the
    /// same roots: a root goes only then, since a file that is being written looks as if it had gone.
    pub(crate) fn next(&self, material: Material, roots_agree: bool) -> (Option<Self>, Vec<Fault>) {
        let mut faults = Vec::new();
        let contents = material.contents();
        let mut candidate = None;
        if contents.own.is_none() || contents.own != self.own.content {
            match Own::read(material.chain, material.key, contents.own) {
                Ok(own) => candidate = Some(Arc::new(own)),
                Err(error) => faults.push(Fault::new(Part::Own, error)),
            }
        }
        let mut roots = (self.authorities.roots.clone(), self.roots_content);
        match self.new_roots(material.roots) {
            Ok(Some(new)) if roots_agree || keeps_all(&new.0, &roots.0) => roots = new,
            Ok(Some(_) | None) => {}
            Err(error) => faults.push(Fault::new(Part::Roots, error)),
        }
        let (roots, roots_content) = roots;
        let mut authorities = Authorities {
            roots,
            lists: Vec::new(),
            expired_crls: self.authorities.expired_crls,
        };

        // Whoever stands in our own chain vouches for lists only if the chain is sound itself.
        candidate = candidate.filter(|own| self.takes(own, &authorities, &mut faults));
        let ours = candidate.iter().flat_map(|own| own.issuers());
        let ours: Vec<_> = ours.chain(self.own.issuers()).cloned().collect();
        let (lists, list_faults) = {
            let setting = Setting {
                in_force: Some(&self.authorities.lists),
                issuers: &Issuers::new(&ours, &authorities.roots),
                roots: &authorities.roots,
                now: SystemTime::now(),
            };
            lists::renew(material.crls, &setting)
        };
        faults.extend(list_faults);
        authorities.lists = lists;
        let own = candidate
            .filter(|own| self.takes(own, &authorities, &mut faults))
            .unwrap_or_else(|| self.own.clone());

        let unchanged = Arc::ptr_eq(&own, &self.own)
            && roots_content == self.roots_content
            && lists::are_the_same(&authorities.lists, &self.authorities.lists);
        if unchanged {
            return (None, faults);
        }
        let next = Self {
            role: self.role,
            generation: self.generation + 1,
            verdict: own.judged(self.role, &authorities),
            own,
            authorities: Arc::new(authorities),
            roots_content,
            rejudged: Mutex::default(),
            configurations: Configurations::default(),
        };
        (Some(next), faults)
    }

    /// The roots of a file that is not the one in force.
    fn new_roots(
        &self,
        file: Result<PemFile, Unreadable>,
    ) -> Result<Option<NewRoots>, InvalidCredentials> {
        let file = file?;
        let content = file.digest();
        if content == self.roots_content {
            return Ok(None);
        }
        Ok(Some((file.roots()?.into(), content)))
    }

    /// Whether `own` is to replace our own certificate. Neither side replaces a good one by one that fails, and a
    /// server takes none that fails.
    fn takes(&self, own: &Own, authorities: &Authorities, faults: &mut Vec<Fault>) -> bool {
        let Err(refusal) = own.judged(self.role, authorities) else {
            return true;
        };
        if self.role == Role::Client && self.own.judged(self.role, authorities).is_err() {
            return true;
        }
        faults.push(Fault::new(Part::Own, own.refused(&refusal)));
        false
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
        Self::first(role, material, expired_crls)
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
        self.verdict.as_ref()
    }

    /// What decides about the other side.
    pub fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// The revocation lists in force.
    pub fn crls(&self) -> impl ExactSizeIterator<Item = &CrlFacts> {
        self.authorities.lists.iter().map(ListInForce::facts)
    }

    /// Those whose issuer no certificate here is that of.
    pub(crate) fn crls_of_strangers(&self) -> impl Iterator<Item = &CrlFacts> {
        let lists = self.authorities.lists.iter();
        lists
            .filter(|list| list.is_of_a_stranger())
            .map(ListInForce::facts)
    }

    pub(crate) fn configurations(&self) -> &Configurations {
        &self.configurations
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
        let judge = || self.authorities.peer_of(role, chain, SystemTime::now());
        verdict.get_or_init(|| judge().map(drop)).clone()
    }

    /// When the next revocation list after `at` goes stale, if that ends anybody's right to be believed.
    pub(crate) fn next_stale_list(&self, at: SystemTime) -> Option<SystemTime> {
        let updates = self.crls().map(|crl| crl.next_update);
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
            .field("own", &self.verdict)
            .finish_non_exhaustive()
    }
}

impl Own {
    fn read(
        chain: Result<PemFile, Unreadable>,
        key: Option<Result<PemFile, Unreadable>>,
        content: Option<Digest>,
    ) -> Result<Self, InvalidCredentials> {
        let chain_file = chain?;
        let chain = chain_file.chain()?;
        let key_file = match key {
            Some(key) => &key?,
            None => &chain_file,
        };
        let key = key_file.private_key()?;
        let certified =
            CertifiedKey::from_der(chain.clone(), key, crypto::provider()).map_err(|error| {
                if matches!(error, rustls::Error::InconsistentKeys(_)) {
                    return InvalidCredentials::KeyMismatch {
                        key: key_file.path.clone(),
                        chain: chain_file.path.clone(),
                    };
                }
                InvalidCredentials::UnusableKey {
                    path: key_file.path.clone(),
                    reason: error.to_string(),
                }
            })?;
        Ok(Self {
            chain,
            resolver: Arc::new(SingleCertAndKey::from(certified)),
            content,
            path: chain_file.path,
        })
    }

    fn issuers(&self) -> &[CertificateDer<'static>] {
        self.chain.get(1..).unwrap_or_default()
    }

    /// What a peer with these authorities would say. A list that names the leaf or an issuer of it counts; that one has
    /// expired, or is about others, is no reason to doubt ourselves, since a peer may have a better one.
    fn judged(&self, role: Role, authorities: &Authorities) -> Result<Peer, Refusal> {
        let now = SystemTime::now();
        let with = |lists| Authorities {
            roots: authorities.roots.clone(),
            lists,
            expired_crls: ExpiredCrls::Honour,
        };
        let peer = with(Vec::new()).judge(role, &self.chain, now)?;
        match with(authorities.lists.clone()).judge(role, &self.chain, now) {
            Err(refusal) if *refusal.cause() == Refusal::Revoked => Err(refusal),
            Err(_) | Ok(_) => Ok(peer),
        }
    }

    fn refused(&self, refusal: &Refusal) -> InvalidCredentials {
        InvalidCredentials::SelfCheck {
            path: self.path.clone(),
            refusal: refusal.clone(),
        }
    }
}

/// Whether each root of `old` is among those of `new`.
fn keeps_all(new: &[Root], old: &[Root]) -> bool {
    old.iter()
        .all(|old| new.iter().any(|new| new.der == old.der))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, KeyUsagePurpose, SanType,
    };

    use super::*;

    fn root(name: &str) -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, key))
    }

    #[test]
    fn a_root_goes_when_two_reads_in_a_row_miss_it_and_comes_with_the_first_that_has_it() {
        let ((first, issuer), (second, _), (third, _)) = (root("a"), root("b"), root("c"));
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI("spiffe://acme.test/a".try_into().unwrap())];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
        let read = |roots: &[&str]| {
            let file = |name, content: String| PemFile::new(name, content.into_bytes());
            Material::new(
                file("tls.crt", leaf.clone()),
                file("tls.key", key.serialize_pem()),
                file("ca.crt", roots.concat()),
                None,
            )
        };
        let roots = |snapshot: &Snapshot| snapshot.authorities.roots.len();
        let whole = read(&[&first, &second]);
        let snapshot = Snapshot::first(Role::Server, whole, ExpiredCrls::Honour).unwrap();
        assert_eq!(roots(&snapshot), 2);

        // Cut between two certificates, as a file is that is being written.
        let (taken, faults) = snapshot.next(read(&[&first]), false);
        assert!(taken.is_none() && faults.is_empty(), "{faults:?}");
        let (taken, _) = snapshot.next(read(&[&first]), true);
        assert_eq!(roots(&taken.unwrap()), 1);
        let (taken, _) = snapshot.next(read(&[&first, &second, &third]), false);
        assert_eq!(roots(&taken.unwrap()), 3);
    }
}
