//! The identities of a development PKI, read from a file such as `certs/dev.toml`.
//!
//! Strict: an unknown field, a malformed name or an identity twice rejects the file, with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use toml::Spanned;

use super::certificate::Names;
use super::files;
use super::{IdentityName, KeyType, Request, Subject, Usage};
use crate::text::{line_at, parse_toml};

/// Stands in the file for the trust domain that is given to the command.
const PLACEHOLDER: &str = "{trust_domain}";

/// The identities of a file, in its order.
#[derive(Clone, Debug)]
pub struct Roster(Vec<(IdentityName, Request)>);

impl Roster {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or the first line that is not as it must be.
    pub fn read(file: &Path, domain: &TrustDomain) -> Result<Self> {
        Self::parse(&file.display().to_string(), &files::read(file)?, domain)
    }

    /// Reads the text of `file`, whose name is for the errors only.
    ///
    /// # Errors
    /// The first line that is not as it must be.
    pub fn parse(file: &str, text: &str, domain: &TrustDomain) -> Result<Self> {
        let at = |span: Range<usize>, reason: String| {
            anyhow!("{file}:{}: {reason}", line_at(text, span.start))
        };
        let rows: BTreeMap<Spanned<String>, RosterRow> = parse_toml(file, text)?;
        if rows.is_empty() {
            return Err(at(0..0, "there is no identity in it".to_owned()));
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by_key(|(name, _)| name.span().start);
        let entries = rows.into_iter().map(|(name, row)| {
            let (span, name) = (name.span(), name.into_inner());
            let request = row.request(domain);
            let request = request.map_err(|e| at(span.clone(), format!("{name}: {e:#}")))?;
            let parsed = name.parse();
            let parsed = parsed.map_err(|e| at(span, format!("{name:?}: {e}")))?;
            Ok((parsed, request))
        });
        Ok(Self(entries.collect::<Result<_>>()?))
    }

    /// Each identity with what it gets, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = (&IdentityName, &Request)> {
        self.0.iter().map(|(name, request)| (name, request))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterRow {
    usage: Usage,
    #[serde(default)]
    uris: Vec<String>,
    #[serde(default)]
    dns: Vec<String>,
    #[serde(default)]
    ips: Vec<IpAddr>,
    #[serde(default)]
    emails: Vec<String>,
    subject: Option<String>,
    #[serde(default)]
    key: KeyType,
}

impl RosterRow {
    fn request(self, domain: &TrustDomain) -> Result<Request> {
        let Self {
            usage,
            uris,
            dns,
            ips,
            emails,
            subject,
            key,
        } = self;
        let filled = |names: Vec<String>| {
            names
                .into_iter()
                .map(|name| name.replace(PLACEHOLDER, domain.as_str()))
                .collect()
        };
        let names = Names {
            uris: filled(uris),
            dns: filled(dns),
            ips,
            emails: filled(emails),
            others: 0,
        };
        let subject = subject.map(|text| text.parse::<Subject>()).transpose();
        Request::new(names, subject.context("subject")?, Some(usage), key)
    }
}

/// A trust domain, such as `acme.test` (SPIFFE-ID §2.1): also a DNS name, because names are made under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    /// That of the development identities: `acme.test`.
    fn default() -> Self {
        Self("acme.test".to_owned())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let id = format!("spiffe://{text}/a").parse::<identity::SpiffeId>();
        match id {
            Ok(id) if id.trust_domain() == text => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => {
                Err("a trust domain is 1 to 255 of a-z, 0-9, '.', '-' and '_', such as acme.test")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Roster, String> {
        Roster::parse("dev.toml", text, &"acme.test".parse().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_trust_domain_is_filled_in() {
        let text = "[zebra]\nusage = 'client'\nuris = ['spiffe://{trust_domain}/z']\n[ant]\nusage = 'client'\ndns = ['a']\n";
        let roster = parse(text).unwrap();
        let names: Vec<_> = roster.entries().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["zebra", "ant"], "the order of the file");
        let request = format!("{:?}", roster.entries().next().unwrap().1);
        assert!(request.contains("spiffe://acme.test/z"), "{request}");
    }

    #[test]
    fn a_mistake_is_found_with_its_line() {
        for (text, error) in [
            ("", "dev.toml:1: there is no identity in it"),
            (
                "# [a]\\nusage = 'client'\\n",
                "dev.toml:1: there is no identity",
            ),
            (
                "\"[a]\nusage = 'client'\"\n",
                "dev.toml:1: there are quotes around",
            ),
            (
                "W29yZGVyc10KdXNhZ2UgPSAnY2xpZW50Jwo=",
                "dev.toml:1: it is in base64",
            ),
            ("[a", "dev.toml:1: "),
            ("\n[a]\n", "dev.toml:2: missing field `usage`"),
            (
                "[a]\nusage = 'client'\n\nuri = ['x:y']",
                "dev.toml:4: unknown field `uri`",
            ),
            (
                "[a]\nusage = 'admin'",
                "dev.toml:2: unknown variant `admin`",
            ),
            (
                "[a]\nusage = 'client'\nips = ['1.2.3']",
                "dev.toml:3: invalid IP",
            ),
            (
                "[a]\nusage = 'client'\nkey = 'rsa1024'",
                "dev.toml:3: unknown variant `rsa1024`",
            ),
            ("\n[a]\nusage = 'client'", "dev.toml:2: a: no name is given"),
            (
                "[a]\nusage='server'\nsubject='CN=a'",
                "dev.toml:1: a: a server certificate needs",
            ),
            (
                "[a]\nusage='client'\nsubject='a'",
                "dev.toml:1: a: subject: \"a\" is not of the form",
            ),
            (
                "[a]\nusage='client'\ndns=['a']\n['../b']\nusage='client'\ndns=['b']",
                "dev.toml:4: \"../b\": a name is",
            ),
            (
                "[a]\nusage='client'\ndns=['a']\n[a]\nusage='client'\ndns=['b']",
                "dev.toml:4: duplicate key",
            ),
            (
                "[ca]\nusage='client'\ndns=['a']",
                "dev.toml:1: \"ca\": `ca` is the directory",
            ),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with(error), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_trust_domain_is_no_path_and_no_url() {
        for text in [
            "",
            "Acme.test",
            "acme.test/x",
            "spiffe://acme.test",
            "a b",
            "a@b",
        ] {
            assert!(text.parse::<TrustDomain>().is_err(), "{text}");
        }
    }
}
