//! SPIFFE IDs (SPIFFE-ID standard, section 2).

use std::fmt;
use std::str::FromStr;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID §2.3.
const MAX_LENGTH: usize = 2048;
/// SPIFFE-ID §2.1.
const MAX_TRUST_DOMAIN: usize = 255;

/// The name of a workload: `spiffe://TRUST-DOMAIN/PATH`. Two IDs are the same when their text is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    id: String,
    trust_domain_end: usize,
}

/// The rule that a text violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    /// It does not begin with `spiffe://` in lower case.
    #[error("it must begin with spiffe:// in lower case")]
    Scheme,
    /// It is over 2048 bytes.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// The trust domain is empty, over 255 bytes, or has other characters.
    #[error("the trust domain must be 1 to {MAX_TRUST_DOMAIN} of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// It names a trust domain and no workload (X509-SVID §5.2 for a leaf).
    #[error("it names a trust domain and no workload: the path is missing")]
    NoPath,
    /// A segment of the path is empty, `.` or `..`, or has other characters.
    #[error(
        "each segment of the path must be one or more of a-z, A-Z, 0-9, '.', '-' and '_', and not '.' or '..'"
    )]
    Path,
}

impl SpiffeId {
    /// Whether a URI claims to be a SPIFFE ID: its scheme is `spiffe`, in any case (RFC 3986 §3.1).
    pub(crate) fn is_claimed_by(uri: &str) -> bool {
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        scheme.eq_ignore_ascii_case("spiffe")
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// The trust domain, such as `acme.test`.
    pub fn trust_domain(&self) -> &str {
        self.id
            .get(SCHEME.len()..self.trust_domain_end)
            .unwrap_or_default()
    }

    /// The path, with its leading slash.
    pub fn path(&self) -> &str {
        self.id.get(self.trust_domain_end..).unwrap_or_default()
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        if id.len() > MAX_LENGTH {
            return Err(InvalidSpiffeId::TooLong);
        }
        let rest = id.strip_prefix(SCHEME).ok_or(InvalidSpiffeId::Scheme)?;
        let (trust_domain, path) = rest
            .split_once('/')
            .map_or((rest, None), |(td, path)| (td, Some(path)));
        let in_trust_domain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if trust_domain.is_empty()
            || trust_domain.len() > MAX_TRUST_DOMAIN
            || !trust_domain.bytes().all(in_trust_domain)
        {
            return Err(InvalidSpiffeId::TrustDomain);
        }
        let in_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let mut segments = path.ok_or(InvalidSpiffeId::NoPath)?.split('/');
        if segments
            .any(|segment| matches!(segment, "" | "." | "..") || !segment.bytes().all(in_path))
        {
            return Err(InvalidSpiffeId::Path);
        }
        Ok(Self {
            id: id.to_owned(),
            trust_domain_end: SCHEME.len() + trust_domain.len(),
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        let id: SpiffeId = "spiffe://acme.test/ns/Prod/sa/orders_1".parse().unwrap();
        assert_eq!(
            (id.trust_domain(), id.path()),
            ("acme.test", "/ns/Prod/sa/orders_1")
        );
    }

    #[test]
    fn everything_else_is_refused_with_the_rule_that_it_breaks() {
        use InvalidSpiffeId::{NoPath, Path, Scheme, TooLong, TrustDomain};
        let long = format!("spiffe://acme.test/{}", "a".repeat(MAX_LENGTH));
        let long_domain = format!("spiffe://{}/a", "a".repeat(256));
        for (id, rule) in [
            ("", Scheme),
            ("https://acme.test/a", Scheme),
            ("SPIFFE://acme.test/a", Scheme),
            ("spiffe:acme.test/a", Scheme),
            ("spiffe:///a", TrustDomain),
            ("spiffe://Acme.test/a", TrustDomain),
            ("spiffe://acme.test:443/a", TrustDomain),
            ("spiffe://user@acme.test/a", TrustDomain),
            ("spiffe://acme.test?x", TrustDomain),
            (&long_domain, TrustDomain),
            ("spiffe://acme.test", NoPath),
            ("spiffe://acme.test/", Path),
            ("spiffe://acme.test/a/", Path),
            ("spiffe://acme.test/ns//sa", Path),
            ("spiffe://acme.test/a/../b", Path),
            ("spiffe://acme.test/./b", Path),
            ("spiffe://acme.test/a%2fb", Path),
            ("spiffe://acme.test/a?b", Path),
            ("spiffe://acme.test/a#b", Path),
            ("spiffe://acme.test/é", Path),
            ("spiffe://acme.test/a b", Path),
            (&long, TooLong),
        ] {
            assert_eq!(id.parse::<SpiffeId>(), Err(rule), "{id}");
        }
    }
}
