//! The revocation lists in force, with the last good list of each issuer.
//!
//! A reload does not weaken revocation: a list is replaced by a newer one of its issuer, or removed with its roots. If
//! the issuer's certificate is not known, the new list is in force beside the old one until a verified path has that
//! certificate, which shows who signed the list.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::codes;
use crate::trust::crl::{CrlFacts, RevocationList, claimed_issuer};
use crate::trust::faults::{Fault, Part};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::issuers::Issuers;
use crate::trust::material::NewLists;
use crate::trust::names::canonical;
use crate::trust::pem_file::PemFile;
use crate::trust::root::Root;

/// How many lists of one issuer may wait for its certificate; the oldest goes first.
const MAX_CANDIDATES: usize = 8;

/// The lists in force for one issuer and scope.
#[derive(Clone, Debug)]
pub(crate) struct ListInForce {
    newest: Arc<RevocationList>,
    /// The lists that count if the newest is forged, newest first.
    before: Vec<Arc<RevocationList>>,
    /// Whether the certificates of that issuer were not checked before these lists arrived.
    unchecked_before: bool,
    standing: Proof,
    /// The roots that the issuer stands under, as far as the credentials show.
    roots: Vec<CertificateDer<'static>>,
}

/// Whether the issuer signed the newest list.
#[derive(Clone, Debug)]
enum Proof {
    Proven,
    /// The issuer's certificate is not known here. What a verified path showed about it is shared by all snapshots.
    Unproven(Arc<IssuersSeen>),
}

#[derive(Debug, Default)]
struct IssuersSeen {
    owned: AtomicBool,
    disowned: AtomicBool,
}

impl ListInForce {
    fn proven(list: Arc<RevocationList>, roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            newest: list,
            before: Vec::new(),
            unchecked_before: false,
            standing: Proof::Proven,
            roots,
        }
    }

    pub(crate) fn facts(&self) -> &CrlFacts {
        &self.newest.facts
    }

    pub(crate) fn newest(&self) -> &RevocationList {
        &self.newest
    }

    /// The roots that its issuer stands under, as far as the credentials show.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether the certificate of its issuer is not known here.
    pub(crate) fn is_of_a_stranger(&self) -> bool {
        matches!(self.standing, Proof::Unproven(_))
    }

    /// Whether it is settled who signed it.
    pub(crate) fn is_settled(&self) -> bool {
        match &self.standing {
            Proof::Proven => true,
            Proof::Unproven(met) => met.owned.load(Ordering::Relaxed),
        }
    }

    fn is_disowned(&self) -> bool {
        match &self.standing {
            Proof::Proven => false,
            Proof::Unproven(met) => {
                met.disowned.load(Ordering::Relaxed) && !met.owned.load(Ordering::Relaxed)
            }
        }
    }

    /// The list that counts on a path through `issuers`.
    pub(crate) fn on_path(&self, issuers: &Issuers<'_>) -> Option<&RevocationList> {
        if self.is_settled() {
            return Some(&self.newest);
        }
        let namesakes: Vec<_> = issuers.named(&self.facts().raw_issuer).collect();
        if namesakes.is_empty() {
            return Some(&self.newest);
        }
        let signed = |list: &&Arc<RevocationList>| {
            let mut namesakes = namesakes.iter();
            namesakes.any(|issuer| issuer.may_sign_lists() && list.is_signed_by(issuer))
        };
        match [&self.newest].into_iter().chain(&self.before).find(signed) {
            Some(list) => Some(list),
            None if self.unchecked_before => None,
            // None was signed by the issuer, so no certificate of that issuer is accepted.
            None => Some(&self.newest),
        }
    }

    /// Learns from a verified path whether its issuer signed the newest list.
    pub(crate) fn meet(&self, issuers: &Issuers<'_>) {
        let Proof::Unproven(met) = &self.standing else {
            return;
        };
        for issuer in issuers.named(&self.facts().raw_issuer) {
            let signed = issuer.may_sign_lists() && self.newest.is_signed_by(issuer);
            let found = if signed { &met.owned } else { &met.disowned };
            found.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it may be dropped with these roots: all roots above its issuer are gone.
    fn may_go(&self, roots: &[Root]) -> bool {
        let gone = |old: &CertificateDer<'_>| roots.iter().all(|root| root.der != *old);
        !self.roots.is_empty() && self.roots.iter().all(gone)
    }

    fn is_the_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.newest, &other.newest)
            && self.is_of_a_stranger() == other.is_of_a_stranger()
            && self.roots == other.roots
    }
}

/// Whether nothing changed from one to the other.
pub(crate) fn are_the_same(some: &[ListInForce], others: &[ListInForce]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(a, b)| a.is_the_same_as(b))
}

/// The context that a file of lists is checked in.
pub(crate) struct Setting<'a> {
    /// What is in force; `None` at the start, when there is nothing to fall back on.
    in_force: Option<&'a [ListInForce]>,
    issuers: Issuers<'a>,
    roots: &'a [Root],
    now: SystemTime,
}

impl<'a> Setting<'a> {
    pub(crate) fn new(
        in_force: Option<&'a [ListInForce]>,
        intermediates: &'a [CertificateDer<'_>],
        roots: &'a [Root],
        now: SystemTime,
    ) -> Self {
        Self {
            in_force,
            issuers: Issuers::new(intermediates, roots),
            roots,
            now,
        }
    }
}

/// The lists in force from now on: the valid ones of `new`, otherwise the last good ones.
pub(crate) fn renew(new: &NewLists, setting: &Setting<'_>) -> (Vec<ListInForce>, Vec<Fault>) {
    let before = setting.in_force.unwrap_or_default();
    let mut faults = Vec::new();
    let path = new.path.display();
    let (lists, whole) = match &new.file {
        Ok(None) => (Vec::new(), true),
        Ok(Some(file)) => match file.revocation_lists() {
            Ok(lists) => (lists, true),
            Err(error) => {
                faults.push(Fault::new(Part::Lists, error));
                (salvaged(file), false)
            }
        },
        Err(error) => {
            faults.push(Fault::new(Part::Lists, error.clone()));
            (Vec::new(), false)
        }
    };

    let mut renewed: Vec<ListInForce> = Vec::new();
    let (mut refused, mut doubled) = (Vec::new(), Vec::new());
    for (index, der) in lists.iter().enumerate() {
        if !doubled.is_empty() && claimed_issuer(der).is_some_and(|it| doubled.contains(&it)) {
            continue;
        }
        let taken = take(der, whole, &renewed, setting.in_force, &setting.issuers);
        let taken = taken.and_then(|taken| match &taken {
            Some(list) => list.newest.is_issued(setting.now).map(|()| taken),
            None => Ok(None),
        });
        match taken {
            Ok(Some(list)) => renewed.push(list),
            Ok(None) => {}
            Err(error) => {
                let issuer = claimed_issuer(der).unwrap_or_default();
                if error.code() == codes::CRL_DUPLICATE {
                    // Neither: we do not guess which of them is intended.
                    renewed.retain(|other| other.facts().canonical_issuer != issuer);
                    doubled.push(issuer.clone());
                }
                refused.push(issuer.clone());
                let error = error.at(format_args!("revocation list {} in {path}", index + 1));
                faults.push(Fault::new(Part::ListOf(issuer), error));
            }
        }
    }
    for old in before {
        let replaced = |new: &&ListInForce| new.facts().covers_the_same_as(old.facts());
        if renewed.iter().any(|new| replaced(&new)) {
            continue;
        }
        let issuer = &old.facts().canonical_issuer;
        if whole && !refused.contains(issuer) {
            if old.may_go(setting.roots) {
                continue;
            }
            let name = &old.facts().issuer;
            let error = InvalidCredentials::new(
                codes::CRL_GONE,
                format!(
                    "{path} no longer holds the revocation list of {name}: put a current one back, or restart to stop \
                     checking"
                ),
            );
            faults.push(Fault::new(Part::ListOf(issuer.clone()), error));
        }
        renewed.push(kept(old, &setting.issuers));
    }
    for list in renewed.iter().filter(|list| list.is_disowned()) {
        let issuer = &list.facts().issuer;
        let error = InvalidCredentials::new(
            codes::CRL_FORGED,
            format!(
                "{path}: a peer presented the certificate of {issuer}, which did not sign the newest list of that name; the last \
                 good list stays in use: publish the list that the CA signed"
            ),
        );
        let part = Part::ListOf(list.facts().canonical_issuer.clone());
        faults.push(Fault::new(part, error));
    }
    (renewed, faults)
}

/// Whether each of these authorities has a list.
pub(crate) fn cover<'a>(
    lists: &[ListInForce],
    issuers: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    path: &Path,
) -> Result<(), InvalidCredentials> {
    for issuer in issuers {
        let Ok((_, issuer)) = X509Certificate::from_der(issuer) else {
            continue;
        };
        let name = canonical(issuer.subject().as_raw());
        if lists.iter().all(|it| it.facts().canonical_issuer != name) {
            let path = path.display();
            let issuer =
                identity::distinguished_name(issuer.subject().as_raw()).unwrap_or_default();
            let text = format!(
                "{path} has no revocation list of {issuer}, but --tls-require-crl requires one of each CA: publish one, even if it revokes nothing"
            );
            return Err(InvalidCredentials::new(codes::CRL_REQUIRED, text));
        }
    }
    Ok(())
}

/// A list of a file, if it may be in force beside `others` of that file. In a damaged file, only lists whose signature
/// is verified count.
pub(crate) fn take(
    der: &CertificateRevocationListDer<'_>,
    whole: bool,
    others: &[ListInForce],
    in_force: Option<&[ListInForce]>,
    issuers: &Issuers<'_>,
) -> Result<Option<ListInForce>, InvalidCredentials> {
    let before = in_force.unwrap_or_default();
    let content = crate::crypto::digest([der.as_ref()]);
    let same = before.iter().find(|old| old.newest.content == content);
    let list = match same {
        Some(same) => same.newest.clone(),
        None => Arc::new(RevocationList::read(der)?),
    };
    let of_the_same = |other: &&ListInForce| other.facts().covers_the_same_as(&list.facts);
    if others.iter().any(|other| of_the_same(&other)) {
        let issuer = &list.facts.issuer;
        let text = format!("a second list of {issuer}: keep the newer one");
        return Err(InvalidCredentials::new(codes::CRL_DUPLICATE, text));
    }
    let proof = list.proven(issuers)?;
    if let Some(same) = same {
        return Ok(Some(kept(same, issuers)));
    }
    if proof.is_none() && !whole {
        return Ok(None);
    }
    let old = before.iter().find(of_the_same);
    // A forged list has no effect.
    let standing_before = old.into_iter().flat_map(|old| {
        let newest = (!old.is_disowned()).then_some(&old.newest);
        newest.into_iter().chain(&old.before)
    });
    let standing_before: Vec<_> = standing_before.cloned().collect();
    if let Some(last) = standing_before.first() {
        list.may_replace(last)?;
    }
    let is_proven = proof.is_some();
    let roots = proof
        .or_else(|| old.map(|old| old.roots.clone()))
        .unwrap_or_default();
    if is_proven {
        return Ok(Some(ListInForce::proven(list, roots)));
    }
    // Nothing older counts than the newest list that its issuer is known to have signed.
    let settled = old.is_some_and(ListInForce::is_settled);
    let kept = if settled { 1 } else { MAX_CANDIDATES };
    let forgets = settled || standing_before.len() > kept;
    Ok(Some(ListInForce {
        newest: list,
        unchecked_before: match (in_force, old) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(_), Some(old)) => old.unchecked_before && !forgets,
        },
        before: standing_before.into_iter().take(kept).collect(),
        standing: Proof::Unproven(Arc::default()),
        roots,
    }))
}

/// The lists that stay in force, checked with the current certificates.
fn kept(old: &ListInForce, issuers: &Issuers<'_>) -> ListInForce {
    match old.newest.proven(issuers) {
        Ok(Some(roots)) => ListInForce::proven(old.newest.clone(), roots),
        // A list in force stays, even if another authority has that name now.
        Ok(None) | Err(_) => old.clone(),
    }
}

/// The complete lists in a damaged file.
fn salvaged(file: &PemFile) -> Vec<CertificateRevocationListDer<'static>> {
    const BEGIN: &str = "-----BEGIN X509 CRL-----";
    const END: &str = "-----END X509 CRL-----";
    let text = String::from_utf8_lossy(&file.bytes);
    let after_begin = text.split(BEGIN).skip(1);
    let complete = after_begin.filter_map(|text| text.split_once(END));
    let lists = complete.filter_map(|(list, _)| {
        let section = format!("{BEGIN}{list}{END}");
        let section = PemFile::new(&file.path, section.into_bytes());
        section.revocation_lists().ok()
    });
    lists.flatten().collect()
}
