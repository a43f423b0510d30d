//! What must be known about the revocation of a certificate, and which lists are about it.

use std::cell::LazyCell;

use crate::trust::crl::RevocationList;
use crate::trust::names::canonical;

/// What revocation lists must be there, and how current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) expired_crls: ExpiredCrls,
    pub(crate) missing_crls: MissingCrls,
}

impl Rules {
    /// Whether the status of the certificate at `place` of a path is unknown, by these lists of its issuer. Whether a
    /// list for a part of the certificates covers the leaf is for webpki to say.
    pub(crate) fn is_unknown(self, place: usize, issuer: &[u8], lists: &[&RevocationList]) -> bool {
        // webpki does not consult a list whose issuer is encoded differently, so its expiry was not checked.
        let unasked = lists.iter().any(|list| list.crl.issuer() != issuer);
        let is_missing = lists.is_empty() && self.missing_crls == MissingCrls::Refuse;
        let is_doubtful = unasked && self.expired_crls == ExpiredCrls::Refuse;
        let is_authority = place > 0;
        is_missing || is_doubtful || (is_authority && are_only_partial(lists))
    }
}

/// What to do when an issuer has no revocation list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingCrls {
    /// Its certificates are not checked for revocation.
    #[default]
    Allow,
    /// No certificate of that issuer is accepted, and a root comes into use only with its list.
    Refuse,
}

/// Whether a revocation list past its `nextUpdate` (RFC 5280 §5.1.2.5) still counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredCrls {
    /// It still counts: an old list is better than none. A warning is logged.
    #[default]
    Honour,
    /// No certificate of that issuer is accepted until a current list arrives.
    Refuse,
}

/// The lists of `issuer`, however its name is encoded in each.
pub(crate) fn lists_of<'l>(lists: &[&'l RevocationList], issuer: &[u8]) -> Vec<&'l RevocationList> {
    let name = LazyCell::new(|| canonical(issuer));
    let lists = lists.iter().copied();
    lists
        .filter(|list| list.crl.issuer() == issuer || list.facts.canonical_issuer == *name)
        .collect()
}

/// Whether there are revocation lists of an issuer, and each is about some of its certificates only (RFC 5280 §5.2.5).
pub(crate) fn are_only_partial(lists: &[&RevocationList]) -> bool {
    !lists.is_empty()
        && lists
            .iter()
            .all(|list| list.crl.issuing_distribution_point().is_some())
}
