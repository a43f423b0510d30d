//! A public key infrastructure for development and tests: authorities, leaves and revocation lists.
//!
//! The types here make what is asked for, faults included, because tests need faulty certificates.
//! What is not safe to issue is refused by [`Request`]. Only the commands read a clock, and nothing reads
//! from a network.

mod authority;
pub mod certificate;
mod change;
pub(crate) mod command;
mod credentials;
mod directory;
mod encoding;
mod export;
mod files;
mod identity_name;
mod leaf;
mod list;
mod operations;
mod pkcs12;
mod prune;
mod renew;
mod request;
mod revocations;
mod roster;
mod serial;
mod signing_request;
mod stores;
mod subject;

pub use authority::{Authority, Revocation, Validity};
pub(crate) use credentials::Holder;
pub(crate) use directory::{Directory, Origin};
pub use identity_name::IdentityName;
pub use leaf::{KeyType, Leaf, LeafSpec, Purpose};
pub use request::{Request, Usage};
pub use revocations::Revocations;
pub use roster::{Roster, TrustDomain};
pub use serial::Serial;
pub use signing_request::SigningRequest;
pub use subject::Subject;
