//! Cached results of parsing certificates. They depend only on the bytes of a certificate or of its path, so they cannot
//! go stale; verdicts are not cached.

use std::sync::{Arc, LazyLock};

use identity::{InvalidPeer, Peer, Role};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crypto::{self, Digest};
use crate::refusal::Refusal;
use crate::trust::issuers;
use crate::trust::key;
use crate::trust::memo::Memo;

/// For how many authorities the key usage is cached.
const MAX_AUTHORITIES: usize = 512;

/// How many parsed leaves are cached, and the maximum size of their paths.
const MAX_LEAVES: usize = 1024;
const MAX_PATH: usize = 8 << 10;

/// A leaf with the cached result of parsing it. Whether its path is accepted is decided each time.
pub(crate) struct ParsedLeaf {
    id: Digest,
    known: Option<Arc<KnownPath>>,
}

/// A path, and the peer that it names.
struct KnownPath {
    path: Vec<Box<[u8]>>,
    peer: Arc<Peer>,
}

static KNOWN: LazyLock<Memo<Arc<KnownPath>>> = LazyLock::new(|| Memo::new(MAX_LEAVES));

impl ParsedLeaf {
    /// Checks that a handshake can use the key of the leaf.
    pub(crate) fn of(role: Role, leaf: &CertificateDer<'_>) -> Result<Self, Refusal> {
        let name: &[u8] = match role {
            Role::Client => b"client",
            Role::Server => b"server",
        };
        let id = crypto::digest([name, leaf]);
        let known = KNOWN.get(&id);
        if known.is_none() {
            key::check(leaf).map_err(Refusal::UnusableKey)?;
        }
        Ok(Self { id, known })
    }

    /// The peer of this verified path: the cached one, or else that of `read`.
    pub(crate) fn peer(
        &self,
        verified: &[&[u8]],
        read: impl FnOnce() -> Result<Peer, InvalidPeer>,
    ) -> Result<Arc<Peer>, InvalidPeer> {
        let same = |known: &&Arc<KnownPath>| {
            known
                .path
                .iter()
                .map(|der| &**der)
                .eq(verified.iter().copied())
        };
        if let Some(known) = self.known.as_ref().filter(same) {
            return Ok(known.peer.clone());
        }
        let peer = Arc::new(read()?);
        if verified.iter().map(|der| der.len()).sum::<usize>() <= MAX_PATH {
            let path = verified.iter().map(|der| Box::from(*der)).collect();
            let peer = peer.clone();
            KNOWN.put(self.id, Arc::new(KnownPath { path, peer }));
        }
        Ok(peer)
    }
}

/// Whether an authority of a path may sign certificates. It depends only on its bytes, and is cached.
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
