//! The roots of a set of credentials, and how long a path to one of them may be.

use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, TrustAnchor};

/// A chain longer than this is refused before it costs a signature check.
pub(crate) const MAX_CHAIN: usize = 6;

/// How many certificates of a chain may have one subject, as a cross-signed authority does. Each more doubles the paths
/// that a stranger can make us try.
pub(crate) const MAX_NAMESAKES: usize = 2;

/// A trusted root, with its certificate so that its own end of validity counts too.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}
