//! What a source yields: certificates, key and lists, each with the name of its origin, not yet checked.

use std::path::PathBuf;

use identity::SpiffeId;

use crate::crypto::{self, Digest};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::pem_file::PemFile;
use crate::trust::root::Vouches;

/// What was read: each part by itself.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    pub(crate) chain: Result<PemFile, InvalidCredentials>,
    /// `None` when it is in the file of the chain.
    pub(crate) key: Option<Result<PemFile, InvalidCredentials>>,
    pub(crate) bundles: Vec<NewBundle>,
    pub(crate) lists: NewLists,
    /// The name that the chain must have, if the source sets it. Then its own roots must accept the chain, too.
    pub(crate) id: Option<SpiffeId>,
    /// Why the source has nothing newer.
    pub(crate) trouble: Option<InvalidCredentials>,
}

/// The roots of one bundle, and for whom they may vouch. There is one bundle for each.
#[derive(Clone, Debug)]
pub(crate) struct NewBundle {
    pub(crate) vouches: Vouches,
    pub(crate) roots: Result<PemFile, InvalidCredentials>,
}

/// The revocation lists, and where they are or would be.
#[derive(Clone, Debug)]
pub(crate) struct NewLists {
    pub(crate) path: PathBuf,
    /// `None` when there is no such file, and there need not be.
    pub(crate) file: Result<Option<PemFile>, InvalidCredentials>,
}

/// Digests of what was read, to compare with the next read. A part that cannot be read has none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) own: Option<Digest>,
    /// Two reads in a row found the same roots if this is the same.
    pub(crate) roots: Option<Digest>,
    lists: Option<Digest>,
    trouble: Option<Digest>,
}

impl Material {
    /// Of files that were read already.
    pub(crate) fn of_files(
        chain: PemFile,
        key: PemFile,
        roots: PemFile,
        lists: Option<PemFile>,
    ) -> Self {
        Self {
            chain: Ok(chain),
            key: Some(Ok(key)),
            bundles: vec![NewBundle {
                vouches: Vouches::ForEverybody,
                roots: Ok(roots),
            }],
            lists: NewLists {
                path: lists
                    .as_ref()
                    .map_or_else(|| "crl.pem".into(), |file| file.path.clone()),
                file: Ok(lists),
            },
            id: None,
            trouble: None,
        }
    }

    pub(crate) fn contents(&self) -> Digests {
        let chain = self.chain.as_ref().ok();
        let key = self.key.as_ref().map_or(chain, |key| key.as_ref().ok());
        let id = self.id.as_ref().map(SpiffeId::as_str).unwrap_or_default();
        let bundles: Option<Vec<_>> = self
            .bundles
            .iter()
            .map(|bundle| {
                let roots = bundle.roots.as_ref().ok()?;
                let domain = bundle.vouches.trust_domain().unwrap_or_default();
                Some(crypto::digest([domain.as_bytes(), &*roots.bytes]))
            })
            .collect();
        let lists = self.lists.file.as_ref().ok().and_then(Option::as_ref);
        Digests {
            own: chain
                .zip(key)
                .map(|(chain, key)| crypto::digest([&*chain.bytes, &*key.bytes, id.as_bytes()])),
            roots: bundles.map(|bundles| crypto::digest(bundles.iter().map(|it| &it[..]))),
            lists: lists.map(PemFile::digest),
            trouble: self
                .trouble
                .as_ref()
                .map(|trouble| crypto::digest([trouble.to_string().as_bytes()])),
        }
    }
}
