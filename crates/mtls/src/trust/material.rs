//! What a source yields: certificates, key and lists, each with the name of its origin, not yet checked.

use std::path::PathBuf;

use identity::SpiffeId;

use crate::crypto::{self, Digest};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::pem_file::PemFile;
use crate::trust::root::Vouches;
use crate::trust::unreadable::Unreadable;

/// What was read: each part by itself.
pub(crate) struct Material {
    pub(crate) chain: Result<PemFile, Unreadable>,
    /// `None` when it is in the file of the chain.
    pub(crate) key: Option<Result<PemFile, Unreadable>>,
    pub(crate) bundles: Vec<NewBundle>,
    pub(crate) crls: Result<PemFile, NoLists>,
    /// The name that the chain must have, if the source sets it. Then its own roots must accept the chain, too.
    pub(crate) id: Option<SpiffeId>,
    /// Why the source has nothing newer.
    pub(crate) trouble: Option<InvalidCredentials>,
}

/// The roots of one bundle, and for whom they may vouch. There is one bundle for each.
pub(crate) struct NewBundle {
    pub(crate) vouches: Vouches,
    pub(crate) roots: Result<PemFile, InvalidCredentials>,
}

/// Why there are no revocation lists.
pub(crate) enum NoLists {
    /// There is no such file, and there need not be.
    Absent(PathBuf),
    Unreadable(Unreadable),
}

impl NoLists {
    /// Where they would be.
    pub(crate) fn path(&self) -> &PathBuf {
        match self {
            Self::Absent(path) => path,
            Self::Unreadable(unreadable) => &unreadable.path,
        }
    }
}

/// Digests of what was read, to compare with the next read. A part that cannot be read has none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) own: Option<Digest>,
    roots: Option<Digest>,
    crls: Option<Digest>,
    trouble: Option<Digest>,
}

impl Digests {
    /// Whether two reads in a row found the same roots.
    pub(crate) fn has_the_roots_of(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

impl Material {
    /// Of files that were read already.
    pub(crate) fn of_files(
        chain: PemFile,
        key: PemFile,
        roots: PemFile,
        crls: Option<PemFile>,
    ) -> Self {
        Self {
            chain: Ok(chain),
            key: Some(Ok(key)),
            bundles: vec![NewBundle {
                vouches: Vouches::ForEverybody,
                roots: Ok(roots),
            }],
            crls: crls.ok_or_else(|| NoLists::Absent("crl.pem".into())),
            id: None,
            trouble: None,
        }
    }

    /// Nothing was read, for this reason.
    pub(crate) fn nothing(trouble: Option<InvalidCredentials>) -> Self {
        let none = || Unreadable {
            path: "the Workload API".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        Self {
            chain: Err(none()),
            key: None,
            bundles: Vec::new(),
            crls: Err(NoLists::Unreadable(none())),
            id: None,
            trouble,
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
        Digests {
            own: chain
                .zip(key)
                .map(|(chain, key)| crypto::digest([&*chain.bytes, &*key.bytes, id.as_bytes()])),
            roots: bundles.map(|bundles| crypto::digest(bundles.iter().map(|it| &it[..]))),
            crls: self.crls.as_ref().ok().map(PemFile::digest),
            trouble: self
                .trouble
                .as_ref()
                .map(|trouble| crypto::digest([trouble.to_string().as_bytes()])),
        }
    }
}
