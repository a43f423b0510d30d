//! The roots in force, bundle by bundle: each keeps its own last good content.
//!
//! A root does not come from a half-written file, and an invalid bundle does not block another.

use std::sync::Arc;

use crate::crypto::Digest;
use crate::trust::faults::{Fault, Part};
use crate::trust::material::NewBundle;
use crate::trust::pem_file::PemFile;
use crate::trust::root::{Root, Vouches};

/// The roots of one bundle, and the content that they were read from.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) vouches: Vouches,
    pub(crate) roots: Vec<Root>,
    content: Digest,
}

/// The bundles in force from now on: the valid ones of `new`, and the last good content of the invalid ones.
/// A bundle that is not in `new` is removed. A root is removed from a bundle only if `may_go`.
pub(crate) fn renew(
    in_force: &[Arc<Bundle>],
    new: Vec<NewBundle>,
    may_go: bool,
    faults: &mut Vec<Fault>,
) -> Vec<Arc<Bundle>> {
    let mut renewed = Vec::new();
    for NewBundle { vouches, roots } in new {
        let before = in_force.iter().find(|old| old.vouches == vouches);
        let read = roots.and_then(|file| {
            let content = PemFile::digest(&file);
            if let Some(same) = before.filter(|old| old.content == content) {
                return Ok(same.clone());
            }
            let roots = file.roots(&vouches)?;
            Ok(Arc::new(Bundle {
                vouches: vouches.clone(),
                roots,
                content,
            }))
        });
        match read {
            Ok(bundle) if may_go || before.is_none_or(|old| bundle.keeps_all_of(old)) => {
                renewed.push(bundle);
            }
            Ok(_half) => renewed.extend(before.cloned()),
            Err(error) => {
                faults.push(Fault::new(Part::Roots(vouches), error));
                renewed.extend(before.cloned());
            }
        }
    }
    renewed
}

/// All roots of these bundles.
pub(crate) fn roots(bundles: &[Arc<Bundle>]) -> Arc<[Root]> {
    bundles.iter().flat_map(|it| &it.roots).cloned().collect()
}

/// Whether nothing changed from one to the other.
pub(crate) fn are_the_same(some: &[Arc<Bundle>], others: &[Arc<Bundle>]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl Bundle {
    fn keeps_all_of(&self, old: &Self) -> bool {
        old.roots
            .iter()
            .all(|old| self.roots.iter().any(|new| new.der == old.der))
    }
}
