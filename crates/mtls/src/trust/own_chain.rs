//! Our own chain and its key, and what a peer would say about them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use identity::{Peer, Role, SpiffeId};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::codes;
use crate::crypto::{self, Digest};
use crate::refusal::Refusal;
use crate::trust::invalid::InvalidCredentials;
use crate::trust::pem_file::PemFile;
use crate::trust::revocation::Rules;
use crate::trust::verify::Authorities;

/// Our chain and its key, which are replaced as one.
pub(crate) struct OwnChain {
    path: PathBuf,
    /// The SPIFFE ID that the chain must have, if its source states one.
    pub(crate) id: Option<SpiffeId>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) resolver: Arc<SingleCertAndKey>,
    pub(crate) content: Option<Digest>,
}

impl OwnChain {
    /// Reads the chain and its key, which is in the file of the chain unless it has one of its own.
    pub(crate) fn read(
        chain: Result<PemFile, InvalidCredentials>,
        key: Option<Result<PemFile, InvalidCredentials>>,
        id: Option<SpiffeId>,
        content: Option<Digest>,
    ) -> Result<Self, InvalidCredentials> {
        let chain_file = chain?;
        let chain = chain_file.chain()?;
        let key_file = match key {
            Some(key) => &key?,
            None => &chain_file,
        };
        let key = key_file.private_key()?;
        let certified = crypto::signing_key(&key).and_then(|key| {
            let certified = CertifiedKey::new(chain.clone(), key);
            certified.keys_match().map(|()| certified)
        });
        let certified = certified.map_err(|error| {
            if matches!(error, rustls::Error::InconsistentKeys(_)) {
                let (key, chain) = (key_file.path.display(), chain_file.path.display());
                let text = format!(
                    "the key in {key} does not match the first certificate in {chain}: they are from different pairs, or the chain \
                     is in the wrong order (the leaf comes first)"
                );
                return InvalidCredentials::new(codes::KEY_MISMATCH, text);
            }
            key_file.unusable_key(error)
        })?;
        Ok(Self {
            chain,
            resolver: Arc::new(SingleCertAndKey::from(certified)),
            content,
            id,
            path: chain_file.path,
        })
    }

    /// The certificates after the leaf.
    pub(crate) fn issuers(&self) -> &[CertificateDer<'static>] {
        self.chain.get(1..).unwrap_or_default()
    }

    /// The verdict of a peer with these authorities. A list that revokes the leaf or one of its issuers counts. A list
    /// that has expired, or does not cover our certificate, does not count, since a peer may have a better one.
    pub(crate) fn judged(
        &self,
        role: Role,
        authorities: &Authorities,
        now: SystemTime,
    ) -> Result<Arc<Peer>, Refusal> {
        let with = |lists| Authorities {
            lists,
            ..Authorities::of(authorities.roots.clone(), Rules::default())
        };
        let peer = with(Vec::new()).judge(role, &self.chain, now)?;
        match with(authorities.lists.clone()).judge(role, &self.chain, now) {
            Err(refusal) if *refusal.cause() == Refusal::Revoked => Err(refusal),
            Err(_) | Ok(_) => Ok(peer),
        }
    }

    /// The verdict of a peer, if the chain may come into use: it has the SPIFFE ID that its source states. A client may use
    /// one that peers refuse if `may_fail` says so, since the server may have other roots; but not if its source provides
    /// the roots too.
    pub(crate) fn check(
        &self,
        role: Role,
        authorities: &Authorities,
        now: SystemTime,
        may_fail: impl FnOnce() -> bool,
    ) -> Result<Result<Arc<Peer>, Refusal>, InvalidCredentials> {
        let path = self.path.display();
        match (self.judged(role, authorities, now), &self.id) {
            (Err(refusal), None) if role == Role::Client && may_fail() => Ok(Err(refusal)),
            (Err(refusal), _) => Err(InvalidCredentials::new(
                refusal.code(),
                format!("{path}: peers would refuse it: {refusal}"),
            )),
            (Ok(peer), Some(id)) if peer.spiffe_id() != Some(id) => Err(InvalidCredentials::new(
                codes::SVID_WRONG_ID,
                format!("{path} should be for {id}, but is for {peer}"),
            )),
            (Ok(peer), _) => Ok(Ok(peer)),
        }
    }
}
