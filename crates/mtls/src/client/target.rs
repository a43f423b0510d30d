//! The addresses of servers. Their certificates prove who they are.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::uri::Authority as UriAuthority;
use rustls::pki_types::ServerName;

/// Where a server is: `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) authority: UriAuthority,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An invalid target.
#[derive(Debug, thiserror::Error)]
#[error("{target:?} is not a valid target: {reason}; use https://HOST:PORT")]
pub struct InvalidTarget {
    target: String,
    reason: String,
}

impl Target {
    /// Reads `https://HOST[:PORT]`; the port is 443 unless given.
    ///
    /// # Errors
    /// Another scheme, no host, an invalid port, or more than a host and a port.
    pub fn parse(target: &str) -> Result<Self, InvalidTarget> {
        parse(target).map_err(|reason| InvalidTarget {
            // What is before an @ may be a password.
            target: match target.rsplit_once('@') {
                Some((_secret, rest)) => format!("...@{rest}"),
                None => target.to_owned(),
            },
            reason,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, as the name that the server's certificate should carry.
    pub fn server_name(&self) -> ServerName<'static> {
        // `parse` admitted nothing else.
        ServerName::try_from(self.host.clone())
            .unwrap_or_else(|_e| ServerName::from(IpAddr::from([0; 4])))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

fn parse(target: &str) -> Result<Target, String> {
    let no = |reason: &str| Err(reason.to_owned());
    if target.is_empty() {
        return no("it is empty");
    }
    if target.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return no("it has white space or a control character");
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return no("it has no scheme");
    };
    if !scheme.eq_ignore_ascii_case("https") {
        return no("its scheme is not https");
    }
    let authority = match rest.split_once(['/', '?', '#']) {
        None => rest,
        // A path of "/" is the same as none.
        Some((authority, "")) if rest.ends_with('/') => authority,
        Some(_) => return no("it has a path, a query or a fragment"),
    };
    if authority.contains('@') {
        return no("it has a user");
    }
    let (host, port) = host_and_port(authority)?;
    let authority = authority
        .parse::<UriAuthority>()
        .map_err(|_e| "its host is neither a DNS name nor an IP address".to_owned())?;
    Ok(Target {
        authority,
        host,
        port,
    })
}

fn host_and_port(authority: &str) -> Result<(String, u16), String> {
    let no = |reason: &str| Err(reason.to_owned());
    let (host, rest) = if let Some(bracketed) = authority.strip_prefix('[') {
        let Some((host, rest)) = bracketed.split_once(']') else {
            return no("its host has no closing bracket");
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return no("the text between the brackets is not an IPv6 address");
        }
        (host, rest)
    } else if authority.matches(':').count() > 1 {
        return no("an IPv6 address needs brackets around it, as in https://[::1]:50051");
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        authority.split_at(end)
    };
    if host.is_empty() {
        return no("it has no host");
    }
    if ServerName::try_from(host).is_err() {
        return no("its host is neither a DNS name nor an IP address");
    }
    if rest.is_empty() {
        return Ok((host.to_owned(), 443));
    }
    let Some(port) = rest.strip_prefix(':') else {
        return no("the text after the brackets is not a port");
    };
    match port.parse() {
        Ok(number) if port.starts_with(|c: char| matches!(c, '1'..='9')) => {
            Ok((host.to_owned(), number))
        }
        Ok(_) | Err(_) => Err(format!("its port {port:?} is not a number from 1 to 65535")),
    }
}

/// The servers of one service; a call goes to any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    first: Target,
    others: Vec<Target>,
}

impl Targets {
    /// Reads one target, or several with commas between them.
    ///
    /// # Errors
    /// See [`Target::parse`].
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

    #[test]
    fn a_target_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        for (text, host, port) in [
            ("https://localhost:50051", "localhost", 50051),
            ("https://localhost", "localhost", 443),
            ("https://localhost/", "localhost", 443),
            ("HTTPS://localhost:1", "localhost", 1),
            ("https://127.0.0.1:65535", "127.0.0.1", 65535),
            ("https://[::1]:50051", "::1", 50051),
            ("https://[::1]", "::1", 443),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((&*target.host, target.port), (host, port), "{text}");
        }
        let port = "is not a number from 1 to 65535";
        let more = "it has a path, a query or a fragment";
        let blank = "it has white space or a control character";
        let host = "its host is neither a DNS name nor an IP address";
        for (text, reason) in [
            (
                "https://localhost:500510",
                format!("its port \"500510\" {port}"),
            ),
            (
                "https://localhost:65536",
                format!("its port \"65536\" {port}"),
            ),
            (
                "https://localhost:5005l",
                format!("its port \"5005l\" {port}"),
            ),
            ("https://localhost:0", format!("its port \"0\" {port}")),
            ("https://localhost:00", format!("its port \"00\" {port}")),
            (
                "https://localhost:050051",
                format!("its port \"050051\" {port}"),
            ),
            ("https://localhost:-1", format!("its port \"-1\" {port}")),
            ("https://localhost:+1", format!("its port \"+1\" {port}")),
            ("https://localhost:", format!("its port \"\" {port}")),
            ("https://localhost:/", format!("its port \"\" {port}")),
            (
                "https://localhost:grpc",
                format!("its port \"grpc\" {port}"),
            ),
            (
                "https://localhost:0x1f",
                format!("its port \"0x1f\" {port}"),
            ),
            (
                "https://localhost:\u{663}",
                format!("its port \"\u{663}\" {port}"),
            ),
            ("https://[::1]:", format!("its port \"\" {port}")),
            (
                "https://[::1]50051",
                "the text after the brackets is not a port".to_owned(),
            ),
            ("https://[::1]:70000", format!("its port \"70000\" {port}")),
            (
                "https://::1:50051",
                "an IPv6 address needs brackets".to_owned(),
            ),
            (
                "https://localhost:1:2",
                "an IPv6 address needs brackets".to_owned(),
            ),
            ("https://[::1", "its host has no closing bracket".to_owned()),
            (
                "https://[127.0.0.1]:1",
                "between the brackets is not an IPv6".to_owned(),
            ),
            (
                "https://[fe80::1%25eth0]:1",
                "between the brackets is not an IPv6".to_owned(),
            ),
            ("https://localhost:1/path", more.to_owned()),
            ("https://localhost:1//", more.to_owned()),
            ("https://localhost:1/?", more.to_owned()),
            ("https://localhost:1?query", more.to_owned()),
            ("https://localhost:1#fragment", more.to_owned()),
            ("https://localhost:1/#", more.to_owned()),
            ("http://localhost:1", "its scheme is not https".to_owned()),
            ("dns:///localhost:1", "its scheme is not https".to_owned()),
            ("localhost:1", "it has no scheme".to_owned()),
            ("https:localhost:1", "it has no scheme".to_owned()),
            ("https://", "it has no host".to_owned()),
            ("https://:1", "it has no host".to_owned()),
            ("https:///", "it has no host".to_owned()),
            ("https://a_b..c:1", host.to_owned()),
            ("https://-a:1", host.to_owned()),
            ("https://a%2eb:1", host.to_owned()),
            ("https://m\u{fc}ller:1", host.to_owned()),
            ("https://a\\b:1", host.to_owned()),
            (" https://localhost:1", blank.to_owned()),
            ("https://localhost:1\n", blank.to_owned()),
            ("https://local host:1", blank.to_owned()),
            ("https://localhost\0:1", blank.to_owned()),
            ("", "it is empty".to_owned()),
        ] {
            let refusal = Target::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(&reason), "{text:?}: {refusal}");
            assert!(refusal.contains(&format!("{text:?}")), "{refusal}");
            let several = format!("https://localhost:1,{text}");
            let refusal = Targets::parse(&several).unwrap_err().to_string();
            assert!(refusal.contains(&reason), "{several:?}: {refusal}");
        }
    }

    #[test]
    fn a_target_with_a_password_is_refused_without_it() {
        for text in [
            "https://me:secret@localhost:1",
            "https://secret@",
            "secret@localhost",
        ] {
            let refusal = Target::parse(text).unwrap_err().to_string();
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }
}
