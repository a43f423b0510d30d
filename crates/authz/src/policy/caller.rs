//! The caller as a policy sees it: the identity by gRFC A41 from the verified certificate. A request cannot change it.

use std::fmt;
use std::slice;
use std::sync::Arc;

use identity::{Claims, Peer};

/// The other side of a connection, in the terms of gRFC A43.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No TLS. No list of principals matches it, neither `"*"` nor `""`.
    Plaintext,
    /// TLS without a client certificate. Its identity is `""`.
    Anonymous,
    /// A verified client certificate.
    Authenticated {
        /// The URI subject alternative names.
        uri_sans: Vec<String>,
        /// The DNS subject alternative names; only looked at when there is no URI name.
        dns_sans: Vec<String>,
        /// The subject as an RFC 4514 string; only looked at when there is neither.
        subject: String,
    },
}

impl From<&Peer> for Caller {
    fn from(peer: &Peer) -> Self {
        Self::Authenticated {
            uri_sans: peer.uri_sans().to_vec(),
            dns_sans: peer.dns_sans().to_vec(),
            subject: peer.subject().to_owned(),
        }
    }
}

impl From<&Arc<Peer>> for Caller {
    fn from(peer: &Arc<Peer>) -> Self {
        Self::from(&**peer)
    }
}

impl Caller {
    /// The caller that the holder of an unverified certificate would be. Use it to explain a policy, not to enforce one.
    pub fn claimed(claims: &Claims) -> Self {
        Self::Authenticated {
            uri_sans: claims.uri_sans().to_vec(),
            dns_sans: claims.dns_sans().to_vec(),
            subject: claims.subject().to_owned(),
        }
    }

    /// The identity that a policy matches: the URI names if any, else the DNS names, else the subject (gRFC A41).
    pub fn identity(&self) -> Identity<'_> {
        match self {
            Self::Plaintext => Identity::Unprotected,
            Self::Anonymous => Identity::Subject(""),
            Self::Authenticated { uri_sans, .. } if !uri_sans.is_empty() => Identity::Uri(uri_sans),
            Self::Authenticated { dns_sans, .. } if !dns_sans.is_empty() => Identity::Dns(dns_sans),
            Self::Authenticated { subject, .. } => Identity::Subject(subject),
        }
    }
}

/// The names of a caller that count, all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// No TLS: nothing can match.
    Unprotected,
    /// The URI subject alternative names.
    Uri(&'a [String]),
    /// The DNS subject alternative names.
    Dns(&'a [String]),
    /// The subject; `""` is an unauthenticated caller (gRFC A43).
    Subject(&'a str),
}

impl<'a> Identity<'a> {
    /// Every name, in the order of the certificate.
    pub fn names(self) -> impl Iterator<Item = &'a str> + Clone {
        let (sans, subject): (slice::Iter<'a, String>, Option<&'a str>) = match self {
            Identity::Unprotected => ([].iter(), None),
            Identity::Uri(sans) | Identity::Dns(sans) => (sans.iter(), None),
            Identity::Subject(subject) => ([].iter(), Some(subject)),
        };
        sans.map(String::as_str).chain(subject)
    }

    /// The name to log when no rule matched another: the first, or `""`.
    pub fn principal(self) -> &'a str {
        self.names().next().unwrap_or_default()
    }

    /// The kind of the names, in words.
    pub fn kind(self) -> &'static str {
        match self {
            Identity::Unprotected => "no TLS",
            Identity::Uri(_) => "URI SAN",
            Identity::Dns(_) => "DNS SAN",
            Identity::Subject("") => "no name",
            Identity::Subject(_) => "subject",
        }
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        for name in self.names().filter(|name| !name.is_empty()) {
            write!(f, " {name:?}")?;
        }
        Ok(())
    }
}
