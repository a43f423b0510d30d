//! The roots of a set of credentials, which peers each may vouch for, and how long a path to one of them may be.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::trust::name_constraints::Subtrees;

/// A chain longer than this is refused before it costs a signature check.
pub(crate) const MAX_CHAIN: usize = 6;

/// How many certificates of a chain may have one subject, as a cross-signed authority does. Each further one doubles
/// the number of paths that an unauthenticated peer can make us try.
pub(crate) const MAX_NAMESAKES: usize = 2;

/// Which peers a root may vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vouches {
    /// Any name: a root from a file.
    ForEverybody,
    /// Only SPIFFE IDs of this trust domain: a root from its bundle.
    ForTrustDomain(Arc<str>),
}

impl Vouches {
    pub(crate) fn trust_domain(&self) -> Option<&str> {
        match self {
            Self::ForEverybody => None,
            Self::ForTrustDomain(domain) => Some(domain),
        }
    }
}

/// A trusted root, with its certificate so that its own end of validity counts too.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) vouches: Vouches,
    pub(crate) der: CertificateDer<'static>,
    /// What webpki is shown of it: all but `subtrees`.
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) subtrees: Option<Subtrees>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}
