//! Unverified peers, for tests of handlers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::{InvalidPeer, Peer, leaf};

/// How long such a peer is valid.
const LIFETIME: Duration = Duration::from_secs(3600);

impl Peer {
    /// Begins an unverified peer for a test. **Do not call this outside tests:** code that gets a `Peer` trusts its
    /// names.
    ///
    /// ```
    /// use countersign_identity::Peer;
    ///
    /// let peer = Peer::unverified_for_tests()
    ///     .uri("spiffe://acme.test/orders")
    ///     .build()?;
    /// assert_eq!(peer.to_string(), "spiffe://acme.test/orders");
    /// # Ok::<(), countersign_identity::InvalidPeer>(())
    /// ```
    pub fn unverified_for_tests() -> UnverifiedPeer {
        UnverifiedPeer::default()
    }
}

/// The names of a [`Peer`] for a test; see [`Peer::unverified_for_tests`].
#[derive(Clone, Debug, Default)]
#[must_use = "it is a peer once it is built"]
pub struct UnverifiedPeer {
    names: leaf::SanNames,
    subject: String,
}

impl UnverifiedPeer {
    /// With one more URI subject alternative name, such as a SPIFFE ID.
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.names.uri.push(uri.into());
        self
    }

    /// With one more DNS subject alternative name.
    pub fn dns(mut self, name: impl Into<String>) -> Self {
        self.names.dns.push(name.into());
        self
    }

    /// With one more e-mail subject alternative name.
    pub fn email(mut self, address: impl Into<String>) -> Self {
        self.names.email.push(address.into());
        self
    }

    /// With one more IP address subject alternative name.
    pub fn ip(mut self, address: impl Into<IpAddr>) -> Self {
        self.names.ip.push(address.into());
        self
    }

    /// With this subject, an RFC 4514 string such as `CN=batch,O=Acme`. It is not parsed.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// The peer, valid from now for an hour, with a serial number, an issuer and digests that belong to no certificate.
    ///
    /// # Errors
    /// [`InvalidPeer`], when no certificate with these names would give a peer.
    pub fn build(self) -> Result<Peer, InvalidPeer> {
        let Self { names, subject } = self;
        let names = names.checked()?;
        if subject.is_empty() && names.is_empty() {
            return Err(InvalidPeer::Nameless);
        }
        let now = SystemTime::now();
        Ok(Peer {
            spiffe_id: names.spiffe_id()?,
            uri_sans: names.uri,
            dns_sans: names.dns,
            ip_sans: names.ip,
            email_sans: names.email,
            subject,
            issuer: "CN=unverified".to_owned(),
            serial: "00".to_owned(),
            fingerprint: [0; 32],
            root_subject: "CN=unverified".to_owned(),
            root_fingerprint: [0; 32],
            not_before: now,
            not_after: now + LIFETIME,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_for_tests_has_the_names_that_it_was_given() {
        let peer = Peer::unverified_for_tests()
            .uri("spiffe://a.test/x")
            .dns("x.a.test")
            .email("x@a.test")
            .ip([127, 0, 0, 1])
            .subject("CN=x")
            .build()
            .unwrap();
        assert_eq!(peer.spiffe_id().unwrap().as_str(), "spiffe://a.test/x");
        assert_eq!(peer.dns_sans(), ["x.a.test"]);
        assert_eq!(peer.email_sans(), ["x@a.test"]);
        assert_eq!(peer.ip_sans(), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(peer.subject(), "CN=x");
    }

    #[test]
    fn a_peer_for_tests_obeys_the_rules_of_names() {
        let nobody = Peer::unverified_for_tests().build();
        assert!(matches!(nobody, Err(InvalidPeer::Nameless)));
        let two = Peer::unverified_for_tests()
            .uri("spiffe://a.test/x")
            .uri("spiffe://a.test/y");
        assert!(matches!(two.build(), Err(InvalidPeer::TwoSpiffeIds(..))));
        let spaced = Peer::unverified_for_tests().dns("a b").build();
        assert!(matches!(spaced, Err(InvalidPeer::MalformedName { .. })));
        let no_scheme = Peer::unverified_for_tests().uri("orders").build();
        assert!(matches!(no_scheme, Err(InvalidPeer::MalformedName { .. })));
    }
}
