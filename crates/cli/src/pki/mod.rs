//! A public key infrastructure for development and tests: authorities, leaves and revocation lists.
//!
//! The types here make what is asked for, faults included, because tests need faulty certificates.
//! What is not safe to issue is refused by [`Request`]. Only the commands read a clock, and nothing reads
//! from a network.

mod authority;
pub mod certificate;
pub mod command;
mod directory;
mod encoding;
mod error;
mod export;
mod files;
mod identity_name;
mod leaf;
mod list;
pub mod operations;
mod pkcs12;
mod prune;
mod report;
mod request;
mod revocations;
mod roster;
mod serial;
mod signing_request;
mod stores;
mod subject;
mod watch;

pub use authority::{Authority, InvalidAuthority, InvalidLifetime, Revocation, Validity};
pub use directory::{Credentials, Directory, DirectoryError, Holder, Origin};
pub use encoding::NotPem;
pub use error::{ExportError, PkiError};
pub use files::FileError;
pub use identity_name::{IdentityName, InvalidIdentityName};
pub use leaf::{KeyType, Leaf, LeafSpec, NotRepeatable, Purpose};
pub use pkcs12::{InvalidPassword, Pkcs12Error};
pub use request::{InvalidRequest, Request, Usage};
pub use revocations::{InvalidRevocations, Revocations};
pub use roster::{InvalidRoster, InvalidTrustDomain, Roster, TrustDomain};
pub use serial::{InvalidSerial, Serial};
pub use signing_request::{InvalidSigningRequest, SigningRequest};
pub use subject::{InvalidSubject, Subject};

/// Why a certificate, key or revocation list could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name has a character that its place in a certificate does not allow.
    #[error("{kind} {name:?} cannot be written into a certificate; only ASCII is allowed there")]
    Name {
        /// What kind of name it is: `URI`, `DNS name` or `e-mail address`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// What the encoder says.
        source: rcgen::Error,
    },
    /// The key could not be generated.
    #[error("cannot generate a private key")]
    Key(#[source] rcgen::Error),
    /// The encoder or the signer refused.
    #[error("cannot sign {what}")]
    Sign {
        /// What was to be signed.
        what: &'static str,
        /// What the encoder says.
        source: rcgen::Error,
    },
}
