//! What an unverified certificate says.

use std::fmt;

use crate::{InvalidPeer, Peer, Role, SpiffeId, leaf};

/// The names in an unverified certificate: anyone can write them.
///
/// Use it to show a certificate, or to ask what a policy would decide for its holder. Claims cannot become a [`Peer`]:
/// that needs the path that a verifier accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims(Peer);

impl Claims {
    /// Reads what a certificate chain, the leaf first and all of it in DER, claims for the holder of the leaf.
    ///
    /// # Errors
    /// [`InvalidPeer`]: this leaf could not name a peer in `role`, even if it were verified.
    pub fn read<C: AsRef<[u8]>>(role: Role, chain: &[C]) -> Result<Self, InvalidPeer> {
        leaf::read(role, chain).map(Self)
    }

    /// The claimed URI subject alternative names.
    pub fn uri_sans(&self) -> &[String] {
        self.0.uri_sans()
    }

    /// The claimed DNS subject alternative names.
    pub fn dns_sans(&self) -> &[String] {
        self.0.dns_sans()
    }

    /// The claimed SPIFFE ID.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.0.spiffe_id()
    }

    /// The claimed subject as an RFC 4514 string, or `""`.
    pub fn subject(&self) -> &str {
        self.0.subject()
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
