//! Why credentials are refused: which file, which part of it, and what to do. No text contains bytes of a key.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::codes;
use crate::refusal::Refusal;
use crate::trust::invalid_crl::InvalidCrl;
use crate::trust::invalid_workload::InvalidWorkload;
use crate::trust::unreadable::Unreadable;

/// Why a set of credentials cannot be used. The text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCredentials {
    /// A file is missing, not readable by this user, not a file, or too large.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The file is of another form.
    #[error("{} is {form}, not PEM: convert it with `{command}`", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        form: &'static str,
        /// The command that makes PEM of it.
        command: &'static str,
    },
    /// The text between the PEM markers does not decode.
    #[error("{} is not well-formed PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A section does not belong in the file.
    #[error("{}, line {line}: a section of {label} is not read here: {advice}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// Where the section begins, from 1.
        line: usize,
        /// Its label.
        label: String,
        /// What to do.
        advice: &'static str,
    },
    /// The file has no section of the kind that belongs in it.
    #[error("{} holds no {what}{}", path.display(), instead(found))]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The labels of what it does hold.
        found: Vec<String>,
    },
    /// The key is protected by a passphrase.
    #[error("{} is an encrypted private key: decrypt it with `openssl pkey -in … -out …`", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind or form that is not supported, or there are several.
    #[error("{} holds no usable private key: {reason}", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not that of the first certificate.
    #[error(
        "the key in {} is not that of the first certificate in {}: the pair is mixed, or the chain is in the wrong order (the leaf comes first)",
        key.display(), chain.display()
    )]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The chain's file.
        chain: PathBuf,
    },
    /// A certificate is malformed.
    #[error("certificate {position} in {} is not usable: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate was not issued by the one after it.
    #[error("certificate {position} in {} was not issued by the next one: the order is leaf, then each issuer", path.display())]
    ChainOrder {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
    },
    /// A revocation list is malformed, of an unsupported kind, badly signed, or older than the one in force.
    #[error("revocation list {position} in {}: {source}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
        /// What is wrong with it.
        source: InvalidCrl,
    },
    /// An issuer had a revocation list and no longer has one. Checking is not turned off while running.
    #[error("{} no longer holds the revocation list of {issuer}: put a current one back, or restart to stop checking", path.display())]
    CrlGone {
        /// The file.
        path: PathBuf,
        /// The issuer, RFC 4514.
        issuer: String,
    },
    /// A verified path showed, after the list was accepted, that its issuer did not sign it.
    #[error("{}: a caller's certificate of {issuer} shows that it did not sign the newest list of that name, so the last good one counts: publish the list of the CA itself", path.display())]
    CrlDisowned {
        /// The file.
        path: PathBuf,
        /// The issuer, RFC 4514.
        issuer: String,
    },
    /// An authority has no revocation list, and each must have one.
    #[error("{} has no revocation list of {issuer}, and --tls-require-crl requires one of each CA: publish it, even if it revokes nothing", path.display())]
    CrlRequired {
        /// Where it was looked for.
        path: PathBuf,
        /// The authority, RFC 4514.
        issuer: String,
    },
    /// The file that records which lists were in use cannot be read or written.
    #[error("{}, which records the newest revocation lists, is not usable: {reason}; correct it, or remove it to accept the present lists as the newest", path.display())]
    CrlState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A list is older than one that was in use before this start.
    #[error("the revocation list of {issuer} has {what}, as {} records: install the newest", path.display())]
    CrlGoneBack {
        /// The file that records the lists.
        path: PathBuf,
        /// The issuer, RFC 4514.
        issuer: String,
        /// How it is older.
        what: String,
    },
    /// A list was in use before this start, and its issuer no longer has one.
    #[error("there is no revocation list of {issuer}, and its list number {number} was in use, as {} records: put a current one back, or remove that file to stop checking", path.display())]
    CrlForgotten {
        /// The file that records the lists.
        path: PathBuf,
        /// The issuer, RFC 4514.
        issuer: String,
        /// The number of the list that was in use.
        number: String,
    },
    /// The Workload API gave nothing usable.
    #[error(transparent)]
    Workload(#[from] InvalidWorkload),
    /// The certificate has another identity than its source states.
    #[error("{} should be for {expected}, but is for {named}", path.display())]
    WrongId {
        /// The chain's place.
        path: PathBuf,
        /// The SPIFFE ID that the source gave with it.
        expected: String,
        /// The identity that it has.
        named: String,
    },
    /// Peers with the same roots would refuse the chain.
    #[error("{}: peers would refuse it: {refusal}", path.display())]
    SelfCheck {
        /// The chain's file.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
}

impl InvalidCredentials {
    /// Whether a file is not there at all.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Unreadable(unreadable) if unreadable.source.kind() == ErrorKind::NotFound)
    }

    /// Whether a file is there and not ours to read.
    pub fn is_denied_file(&self) -> bool {
        matches!(self, Self::Unreadable(unreadable) if unreadable.source.kind() == ErrorKind::PermissionDenied)
    }

    /// The stable name of this reason, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => codes::CREDENTIALS_UNREADABLE,
            Self::Binary { .. } => codes::CREDENTIALS_NOT_PEM,
            Self::Pem { .. } => codes::PEM_MALFORMED,
            Self::Unexpected { .. } => codes::PEM_UNEXPECTED,
            Self::Missing { .. } => codes::CREDENTIALS_EMPTY,
            Self::EncryptedKey { .. } => codes::KEY_ENCRYPTED,
            Self::UnusableKey { .. } => codes::KEY_UNUSABLE,
            Self::KeyMismatch { .. } => codes::KEY_MISMATCH,
            Self::Certificate { .. } => codes::CERTIFICATE_MALFORMED,
            Self::ChainOrder { .. } => codes::CHAIN_OUT_OF_ORDER,
            Self::Crl { source, .. } => source.code(),
            Self::CrlGone { .. } => codes::CRL_GONE,
            Self::CrlDisowned { .. } => codes::CRL_FORGED,
            Self::CrlRequired { .. } => codes::CRL_REQUIRED,
            Self::CrlState { .. } => codes::CRL_STATE_UNUSABLE,
            Self::CrlGoneBack { .. } => codes::CRL_OLDER,
            Self::CrlForgotten { .. } => codes::CRL_GONE,
            Self::Workload(invalid) => invalid.code(),
            Self::WrongId { .. } => codes::SVID_WRONG_ID,
            Self::SelfCheck { refusal, .. } => refusal.code(),
        }
    }
}

fn instead(found: &[String]) -> String {
    if found.is_empty() {
        return ": there is no PEM section in it".to_owned();
    }
    format!(", but {}", found.join(", "))
}
