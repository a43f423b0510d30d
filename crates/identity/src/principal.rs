//! The name, with its kind, by which a peer is counted, limited, logged and cached.
//!
//! Two names of different kinds are never equal, neither as values nor as text.

use std::fmt;
use std::net::IpAddr;

/// A name in a certificate, with its kind.
///
/// As text a URI, a DNS name and a subject are what the certificate says: a URI has a colon before any `=`, a subject an
/// `=` before any colon, and a DNS name has neither. An IP address is `ip:ADDRESS`, an e-mail address `email:ADDRESS`, and
/// a URI whose scheme is one of these words, or `uri`, is `uri:URI`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A URI subject alternative name, such as a SPIFFE ID.
    Uri(String),
    /// A DNS subject alternative name.
    Dns(String),
    /// The subject as an RFC 4514 string.
    Subject(String),
    /// An IP address subject alternative name.
    Ip(IpAddr),
    /// An e-mail subject alternative name.
    Email(String),
}

impl Principal {
    /// The kind of the name: `uri`, `dns`, `subject`, `ip` or `email`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Uri(_) => "uri",
            Self::Dns(_) => "dns",
            Self::Subject(_) => "subject",
            Self::Ip(_) => "ip",
            Self::Email(_) => "email",
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) if is_taken(uri) => write!(f, "uri:{uri}"),
            Self::Uri(name) | Self::Dns(name) | Self::Subject(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "ip:{address}"),
            Self::Email(address) => write!(f, "email:{address}"),
        }
    }
}

/// Whether a URI could be read as a name of another kind.
fn is_taken(uri: &str) -> bool {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    ["uri", "ip", "email"]
        .iter()
        .any(|word| scheme.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_of_different_kinds_are_different_texts_however_they_are_spelled() {
        let email = |text: &str| Principal::Email(text.to_owned());
        let uri = |text: &str| Principal::Uri(text.to_owned());
        let all = [
            uri("spiffe://acme.test/orders"),
            email("spiffe://acme.test/orders"),
            uri("email:spiffe://acme.test/orders"),
            uri("uri:email:spiffe://acme.test/orders"),
            email("uri:email:spiffe://acme.test/orders"),
            Principal::Dns("orders.acme.test".to_owned()),
            email("orders.acme.test"),
            uri("email:orders.acme.test"),
            Principal::Subject("CN=orders@acme.test".to_owned()),
            email("CN=orders@acme.test"),
            uri("email:CN=orders@acme.test"),
            Principal::Dns("10.0.0.1".to_owned()),
            Principal::Ip("10.0.0.1".parse().unwrap()),
            uri("ip:10.0.0.1"),
            Principal::Ip("fe80::1".parse().unwrap()),
            uri("fe80::1"),
            uri("IP:fe80::1"),
        ];
        let texts: HashSet<_> = all.iter().map(Principal::to_string).collect();
        assert_eq!(texts.len(), all.len(), "{texts:?}");
        let values: HashSet<_> = all.iter().collect();
        assert_eq!(values.len(), all.len());
        assert_eq!(all[0].to_string(), "spiffe://acme.test/orders");
    }
}
