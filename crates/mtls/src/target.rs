//! Where servers are. Never who they are: that is for their certificates to prove.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme};
use rustls::pki_types::{DnsName, ServerName};

/// Where a server is: `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) authority: UriAuthority,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A target that cannot be dialled.
#[derive(Debug, thiserror::Error)]
#[error("{target:?} is no target: {reason}; use https://HOST:PORT")]
pub struct InvalidTarget {
    target: String,
    reason: &'static str,
}

impl Target {
    /// Reads `https://HOST[:PORT]`; the port is 443 unless given.
    ///
    /// # Errors
    /// Another scheme, no host, or a path: a channel goes to a server and not to a resource.
    pub fn parse(target: &str) -> Result<Self, InvalidTarget> {
        let invalid = |reason| InvalidTarget {
            target: target.to_owned(),
            reason,
        };
        let uri: Uri = target.parse().map_err(|_e| invalid("it is not a URI"))?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(invalid("its scheme is not https"));
        }
        if !matches!(
            uri.path_and_query().map(PathAndQuery::as_str),
            None | Some("/")
        ) {
            return Err(invalid("it has a path"));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| invalid("it has no host"))?
            .clone();
        if authority.as_str().contains('@') {
            return Err(invalid("it has a user"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(invalid("its host is neither a DNS name nor an IP address"));
        }
        let port = authority.port_u16().unwrap_or(443);
        Ok(Self {
            authority,
            host,
            port,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, as the name that the server's certificate should carry.
    pub fn server_name(&self) -> ServerName<'static> {
        self.host.parse::<IpAddr>().map_or_else(
            |_not_ip| {
                // `parse` admitted nothing else.
                DnsName::try_from(self.host.clone()).map_or_else(
                    |_e| ServerName::from(IpAddr::from([0; 4])),
                    ServerName::from,
                )
            },
            ServerName::from,
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// Where the servers of one service are; a call goes to any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    first: Target,
    others: Vec<Target>,
}

impl Targets {
    /// Reads one target, or several with commas between them.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn parse(targets: &str) -> Result<Self, InvalidTarget> {
        let mut each = targets.split(',').map(Target::parse);
        Ok(Self {
            first: each.next().unwrap_or_else(|| Target::parse(targets))?,
            others: each.collect::<Result<_, _>>()?,
        })
    }

    /// The first one.
    pub fn first(&self) -> &Target {
        &self.first
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl From<Target> for Targets {
    fn from(first: Target) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.others
            .iter()
            .try_for_each(|other| write!(f, ",{other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_one_or_several() {
        for text in ["https://a:1", "https://a:1,https://b:2,https://[::1]:3"] {
            let targets = Targets::parse(text).unwrap();
            assert_eq!(targets.to_string(), text);
            assert_eq!(targets.iter().count(), text.split(',').count());
            assert_eq!(targets.first().to_string(), "https://a:1");
        }
        for text in [
            "",
            ",",
            "https://a:1,",
            ",https://a:1",
            "https://a:1,b:2",
            "https://a:1, https://b:2",
        ] {
            assert!(Targets::parse(text).is_err(), "{text:?}");
        }
    }
}
