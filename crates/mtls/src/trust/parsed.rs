//! Cached results of parsing certificates. They depend only on the bytes of an authority or of a verified path, so they
//! cannot go stale; verdicts are not cached.

use std::sync::{Arc, LazyLock};

use identity::{InvalidPeer, Peer, Role};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crypto;
use crate::trust::issuers;
use crate::trust::memo::Memo;

/// For how many authorities the key usage is cached.
const MAX_AUTHORITIES: usize = 512;

/// How many peers are cached, and the maximum size of their paths.
const MAX_PEERS: usize = 1024;
const MAX_PATH: usize = 8 << 10;

/// The peer that a verified path (leaf first) names: the cached one, or else that of `read`.
pub(crate) fn peer(
    role: Role,
    verified: &[&[u8]],
    read: impl FnOnce() -> Result<Peer, InvalidPeer>,
) -> Result<Arc<Peer>, InvalidPeer> {
    static PEERS: LazyLock<Memo<Arc<Peer>>> = LazyLock::new(|| Memo::new(MAX_PEERS));
    let name: &[u8] = match role {
        Role::Client => b"client",
        Role::Server => b"server",
    };
    let id = crypto::digest(std::iter::once(name).chain(verified.iter().copied()));
    if let Some(known) = PEERS.get(&id) {
        return Ok(known);
    }
    let peer = Arc::new(read()?);
    if verified.iter().map(|der| der.len()).sum::<usize>() <= MAX_PATH {
        PEERS.put(id, peer.clone());
    }
    Ok(peer)
}

/// Whether an authority of a path may sign certificates.
pub(crate) fn check_authority(der: &CertificateDer<'_>) -> Result<(), webpki::Error> {
    static FIT: LazyLock<Memo<()>> = LazyLock::new(|| Memo::new(MAX_AUTHORITIES));
    let id = crypto::digest([der.as_ref()]);
    if FIT.get(&id).is_some() {
        return Ok(());
    }
    let (_, authority) =
        X509Certificate::from_der(der).map_err(|_unreadable| webpki::Error::BadDer)?;
    issuers::check_usage(&authority).map_err(|_reason| webpki::Error::EndEntityUsedAsCa)?;
    FIT.put(id, ());
    Ok(())
}
