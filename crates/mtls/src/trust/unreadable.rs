//! A file of credentials that cannot be read.

use std::io;
use std::path::PathBuf;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl Clone for Unreadable {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            source: io::Error::new(self.source.kind(), self.source.to_string()),
        }
    }
}
