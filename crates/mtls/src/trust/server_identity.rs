//! The identity that a client expects of a server.

use std::fmt;

use identity::SpiffeId;
use rustls::pki_types::ServerName;

/// The expected identity of a server, besides a chain to one of the roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerIdentity {
    /// A DNS or IP subject alternative name (RFC 9525); the common name never counts.
    Name(ServerName<'static>),
    /// Exactly one URI name, equal to this (SPIFFE X509-SVID §2); host names are not looked at.
    Spiffe(SpiffeId),
    /// Both of the above.
    Both(ServerName<'static>, SpiffeId),
}

impl ServerIdentity {
    /// The identity with this name and this SPIFFE ID, or with the one that is given.
    pub fn of(name: Option<ServerName<'static>>, id: Option<SpiffeId>) -> Option<Self> {
        match (name, id) {
            (None, None) => None,
            (Some(name), None) => Some(Self::Name(name)),
            (None, Some(id)) => Some(Self::Spiffe(id)),
            (Some(name), Some(id)) => Some(Self::Both(name, id)),
        }
    }

    pub(crate) fn name(&self) -> Option<&ServerName<'static>> {
        match self {
            Self::Name(name) | Self::Both(name, _) => Some(name),
            Self::Spiffe(_) => None,
        }
    }

    pub(crate) fn spiffe_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Spiffe(id) | Self::Both(_, id) => Some(id),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{}", name.to_str()),
            Self::Spiffe(id) => write!(f, "{id}"),
            Self::Both(name, id) => write!(f, "{} and {id}", name.to_str()),
        }
    }
}
