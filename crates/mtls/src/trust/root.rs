//! The roots of a set of credentials, for whom each may vouch, and how long a path to one of them may be.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, TrustAnchor};

/// A chain longer than this is refused before it costs a signature check.
pub(crate) const MAX_CHAIN: usize = 6;

/// How many certificates of a chain may have one subject, as a cross-signed authority does. Each more doubles the paths
/// that a stranger can make us try.
pub(crate) const MAX_NAMESAKES: usize = 2;

/// For whom a root may vouch.
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
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}
