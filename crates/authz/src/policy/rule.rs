//! One rule of a policy, and the only function that tests an RPC against it.
//!
//! `decide` and `explain` both call [`Rule::test`], so they cannot disagree.

use std::fmt;

use http::HeaderName;

use crate::policy::caller::Identity;
use crate::policy::pattern::{Pattern, Patterns};
use crate::policy::rpc::Rpc;

/// Which list of a policy a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// `deny_rules`.
    Deny,
    /// `allow_rules`.
    Allow,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        })
    }
}

/// A rule: principals AND paths AND headers; an empty list matches everything (gRFC A43).
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) line: u32,
    pub(crate) principals: Patterns,
    pub(crate) paths: Patterns,
    pub(crate) headers: Vec<HeaderRule>,
}

/// One header of a rule; one of its value patterns must match.
#[derive(Clone, Debug)]
pub(crate) struct HeaderRule {
    pub(crate) key: HeaderName,
    pub(crate) line: u32,
    pub(crate) values: Vec<Pattern>,
}

/// The first part of a rule that did not match.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mismatch<'a> {
    Principal,
    Path,
    Header(&'a HeaderRule),
}

impl Rule {
    /// Whether the rule matches; if so, the name of the caller that matched, unless the rule has no principals.
    pub(crate) fn test<'a>(&'a self, rpc: Rpc<'a>) -> Result<Option<&'a str>, Mismatch<'a>> {
        if !self.paths.is_empty() && !self.paths.matches(rpc.path.as_str()) {
            return Err(Mismatch::Path);
        }
        let principal = match self.principals.is_empty() {
            true => None,
            false => Some(self.principal(rpc.identity).ok_or(Mismatch::Principal)?),
        };
        match self
            .headers
            .iter()
            .find(|header| !header.matches(rpc.headers))
        {
            Some(header) => Err(Mismatch::Header(header)),
            None => Ok(principal),
        }
    }

    fn principal<'a>(&self, identity: Identity<'a>) -> Option<&'a str> {
        identity.names().find(|name| match identity {
            Identity::Unprotected => false,
            Identity::Uri(_) | Identity::Dns(_) => self.principals.matches(name),
            Identity::Subject(_) => self.principals.matches_subject(name),
        })
    }
}

impl HeaderRule {
    fn matches(&self, headers: &http::HeaderMap) -> bool {
        let values = || {
            headers
                .get_all(&self.key)
                .iter()
                .map(http::HeaderValue::as_bytes)
        };
        if is_binary(&self.key) {
            // A value is base64, padded or not, and may be several joined values (gRFC A41).
            let unpadded = || {
                values()
                    .flat_map(|value| value.split(|&byte| byte == b','))
                    .map(unpad)
            };
            return self
                .values
                .iter()
                .any(|pattern| pattern.matches_joined(unpadded()));
        }
        self.values
            .iter()
            .any(|pattern| pattern.matches_joined(values()))
    }
}

pub(crate) fn is_binary(key: &HeaderName) -> bool {
    key.as_str().ends_with("-bin")
}

fn unpad(mut base64: &[u8]) -> &[u8] {
    while let Some(rest) = base64.strip_suffix(b"=") {
        base64 = rest;
    }
    base64
}

/// The text of a pattern for a binary header, padded or not.
pub(crate) fn unpadded(pattern: &str) -> String {
    pattern
        .split(',')
        .map(|value| value.trim_end_matches('='))
        .collect::<Vec<_>>()
        .join(",")
}
