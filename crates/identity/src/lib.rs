//! Who a verified certificate says its holder is.
//!
//! A [`Peer`] is made from a path that a TLS verifier has already accepted; everything in it comes from those certificates and from nowhere else.
//! This crate never does I/O, never verifies a signature, knows no gRPC and decides nothing.

use std::net::IpAddr;
use std::time::SystemTime;

/// The authenticated other side of a connection.
///
/// It is read once per connection from the verified path, and cannot be changed. Handlers take a `Peer`; they never see DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    uri_sans: Vec<String>,
    dns_sans: Vec<String>,
    ip_sans: Vec<IpAddr>,
    email_sans: Vec<String>,
    subject: String,
    issuer: String,
    serial: String,
    fingerprint: [u8; 32],
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Peer {
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

    /// The subject as an RFC 4514 string, or `""` when the certificate has none.
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

    /// From when every certificate of the verified path is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when every certificate of the verified path is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}
