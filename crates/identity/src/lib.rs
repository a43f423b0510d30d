//! The identity of a peer, read from its verified certificate.
//!
//! A [`Peer`] is made from a path that a TLS verifier has accepted. Everything in it comes from those certificates.
//! This crate does no I/O, verifies no signatures, does not depend on gRPC, and makes no authorization decisions.
//!
//! ```
//! use countersign_identity::Peer;
//!
//! # fn main() -> Result<(), countersign_identity::InvalidPeer> {
//! // In a test of a handler. Otherwise a peer comes from the transport.
//! let peer = Peer::unverified_for_tests().uri("spiffe://acme.test/orders").build()?;
//! let id = peer.spiffe_id().map(|id| id.as_str());
//! assert_eq!(id, Some("spiffe://acme.test/orders"));
//! # Ok(())
//! # }
//! ```
//!
//! - [`Peer`]: the names in a verified path, and until when the path is valid
//! - [`Claims`]: the names in an unverified certificate, which cannot become a [`Peer`]
//! - [`SpiffeId`]: a SPIFFE ID, parsed strictly
//! - [`distinguished_name`]: a distinguished name as an RFC 4514 string, as `openssl x509 -nameopt RFC2253` prints it
//! - [`InvalidPeer`]: why a certificate does not identify a peer

// Who gets in is decided here: each match names every case, so that a new one is not decided by accident.
#![warn(clippy::wildcard_enum_match_arm)]

mod claims;
pub mod codes;
mod distinguished_name;
mod invalid;
mod leaf;
mod principal;
mod spiffe_id;
mod unverified;

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

pub use claims::Claims;
pub use distinguished_name::{
    AttributeValue, InvalidName, attribute_name, distinguished_name, encoded_order, escaped_value,
    text_of,
};
pub use invalid::InvalidPeer;
pub use principal::Principal;
pub use spiffe_id::{InvalidSpiffeId, SpiffeId};
pub use unverified::UnverifiedPeer;

/// The role of a certificate's holder, and so the extended key usage that it must have (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A client: `clientAuth`.
    Client,
    /// A server: `serverAuth`.
    Server,
}

/// The authenticated other side of a connection.
///
/// It is read from the verified path of a connection and cannot be changed. Handlers take a `Peer`, not DER.
///
/// As text it is its [`Principal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    uri_sans: Vec<String>,
    dns_sans: Vec<String>,
    ip_sans: Vec<IpAddr>,
    email_sans: Vec<String>,
    spiffe_id: Option<SpiffeId>,
    subject: String,
    issuer: String,
    serial: String,
    fingerprint: [u8; 32],
    root_subject: String,
    root_fingerprint: [u8; 32],
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Peer {
    /// Reads the peer from its verified path: the leaf, then each certificate up to the root, all of them in DER.
    ///
    /// **Only a verifier may call this**, with the path that it has just accepted: signatures are not checked here, so
    /// any other bytes give an unverified peer. This function checks only that the leaf can name a peer in `role`. To
    /// read an unverified certificate, use [`Claims`]; for a test, use [`Peer::unverified_for_tests`].
    ///
    /// # Errors
    /// [`InvalidPeer`] when the leaf is a CA, is not for the role, has no name, or has a name that is malformed, ambiguous
    /// or unsafe to print.
    pub fn from_verified_path<C: AsRef<[u8]>>(role: Role, path: &[C]) -> Result<Self, InvalidPeer> {
        leaf::read(role, path)
    }

    /// The URI subject alternative names, in the order of the certificate.
    pub fn uri_sans(&self) -> &[String] {
        &self.uri_sans
    }

    /// The DNS subject alternative names, in the order of the certificate and exactly as written there.
    pub fn dns_sans(&self) -> &[String] {
        &self.dns_sans
    }

    /// The IP address subject alternative names.
    pub fn ip_sans(&self) -> &[IpAddr] {
        &self.ip_sans
    }

    /// The e-mail subject alternative names.
    pub fn email_sans(&self) -> &[String] {
        &self.email_sans
    }

    /// The name of the peer by gRFC A41: its first URI SAN, else its first DNS SAN, else its subject. If it has none of
    /// them, so that no policy can name it, its first IP address or e-mail address.
    pub fn principal(&self) -> Principal {
        if let Some(uri) = self.uri_sans.first() {
            return Principal::Uri(uri.clone());
        }
        if let Some(dns) = self.dns_sans.first() {
            return Principal::Dns(dns.clone());
        }
        let (ip, email) = (self.ip_sans.first(), self.email_sans.first());
        match (self.subject.is_empty(), ip, email) {
            (true, Some(ip), _) => Principal::Ip(*ip),
            (true, None, Some(email)) => Principal::Email(email.clone()),
            (false, _, _) | (true, None, None) => Principal::Subject(self.subject.clone()),
        }
    }

    /// The SPIFFE ID, if a URI SAN is one. A peer has at most one.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe_id.as_ref()
    }

    /// The subject as an RFC 4514 string (see [`distinguished_name`]), or `""` when the certificate has none.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer of the leaf as an RFC 4514 string.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The serial number of the leaf, in lower-case hexadecimal without separators.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The SHA-256 digest of the leaf.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The subject of the root of the verified path, as an RFC 4514 string, or `""` when it cannot be written as one. It
    /// tells the operator which root it is; it is not an identity.
    pub fn root_subject(&self) -> &str {
        &self.root_subject
    }

    /// The SHA-256 digest of the root of the verified path.
    pub fn root_fingerprint(&self) -> &[u8; 32] {
        &self.root_fingerprint
    }

    /// From when every certificate of the verified path is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when every certificate of the verified path is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// The [`Principal`]. Names of different kinds never have the same text.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.principal().fmt(f)
    }
}
