//! Why credentials are refused: which file, which part of it, and what to do. No text contains bytes of a key.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::codes;

/// Why a set of credentials cannot be used. [`InvalidCredentials::code`] is stable; the text names the file or the agent,
/// and says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct InvalidCredentials {
    code: &'static str,
    text: String,
    /// Why a file could not be read.
    #[source]
    unreadable: Option<Arc<io::Error>>,
}

impl InvalidCredentials {
    pub(crate) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            unreadable: None,
        }
    }

    /// A file is missing, not readable by this user, not a file, or too large.
    pub(crate) fn unreadable(path: &Path, error: io::Error) -> Self {
        let text = format!("cannot read {}: {error}", path.display());
        Self {
            unreadable: Some(Arc::new(error)),
            ..Self::new(codes::CREDENTIALS_UNREADABLE, text)
        }
    }

    /// The same, with the place where it is.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self {
            text: format!("{place}: {}", self.text),
            ..self
        }
    }

    /// Whether a file is not there at all.
    pub fn is_missing_file(&self) -> bool {
        self.is_unreadable_for(io::ErrorKind::NotFound)
    }

    /// Whether a file is there and not ours to read.
    pub fn is_denied_file(&self) -> bool {
        self.is_unreadable_for(io::ErrorKind::PermissionDenied)
    }

    fn is_unreadable_for(&self, kind: io::ErrorKind) -> bool {
        let unreadable = self.unreadable.as_ref();
        unreadable.is_some_and(|error| error.kind() == kind)
    }

    /// The stable name of this reason, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        self.code
    }
}
