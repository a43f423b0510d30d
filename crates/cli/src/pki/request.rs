//! Requests of the command line for a certificate. What is not safe to issue is refused here.

use std::collections::HashSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use identity::SpiffeId;

use super::certificate::Names;
use super::{KeyType, LeafSpec, Purpose, SigningRequest, Subject, Validity};
use crate::text::shell_word;

/// A certificate that may be issued: it has a name, and each name is well-formed.
#[derive(Clone, Debug)]
pub struct Request {
    names: Names,
    subject: Option<Subject>,
    usage: Usage,
    key_type: KeyType,
}

impl Request {
    /// Checks what is asked for. Without a `usage`, the certificate is for both sides if it has a subject
    /// alternative name, and for clients only if it has none, because no server may be without.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(
        names: Names,
        subject: Option<Subject>,
        usage: Option<Usage>,
        key_type: KeyType,
    ) -> Result<Self> {
        let all = names.labelled([""; 4]).map(|(_, name)| name);
        let all: Vec<String> = all.collect();
        let nameless = all.is_empty();
        let usage = usage.unwrap_or(if nameless { Usage::Client } else { Usage::Both });
        if nameless && subject.is_none() {
            bail!(
                "no name is given; give --uri, --dns, --ip or --email, or --subject for a client that has only that"
            );
        }
        if nameless && usage != Usage::Client {
            // Its callers find it by its alternative names, and by nothing else (RFC 9525 §2).
            bail!(
                "a server certificate needs a subject alternative name: give --dns, --ip or --uri, or --usage client"
            );
        }
        check_uris(&names.uris)?;
        names.dns.iter().try_for_each(|name| check_dns(name))?;
        names.emails.iter().try_for_each(|it| check_email(it))?;
        let text = subject.as_ref().map(Subject::text).transpose();
        text.context("the subject is not issued")?;
        let mut seen = HashSet::new();
        if let Some(twice) = all.iter().find(|name| !seen.insert(*name)) {
            bail!("{twice:?} is given twice");
        }
        Ok(Self {
            names,
            subject,
            usage,
            key_type,
        })
    }

    /// What a signing request asks for, each name of which must be among those that are `allowed`. When none is asked for,
    /// all that are allowed are granted.
    ///
    /// # Errors
    /// The names beyond what is allowed, or as [`Request::new`].
    pub fn granting(
        asked: &SigningRequest,
        allowed: Names,
        subject: Option<Subject>,
        usage: Option<Usage>,
    ) -> Result<Self> {
        let beyond = beyond(asked.names(), &allowed);
        // The sender chooses the names, and the reader may paste the command.
        let flags: Vec<_> = beyond
            .labelled(["--uri", "--dns", "--ip", "--email"])
            .map(|(flag, name)| format!("{flag} {}", shell_word(&name)))
            .collect();
        ensure!(
            flags.is_empty(),
            "the request asks for names that are not allowed; allow them with {}, or all of them with --as-requested",
            flags.join(" ")
        );
        let names = if *asked.names() == Names::default() {
            allowed
        } else {
            asked.names().clone()
        };
        Self::new(names, subject, usage, asked.key_type())
    }

    /// What it may be used for.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The leaf that is asked for.
    pub fn spec(&self, validity: Validity) -> LeafSpec {
        LeafSpec {
            subject: self.subject.clone(),
            key_type: self.key_type,
            ..LeafSpec::named(self.names.clone(), self.usage.purposes(), validity)
        }
    }
}

/// The names of `asked` that are not among `allowed`.
fn beyond(asked: &Names, allowed: &Names) -> Names {
    fn missing<T: Clone + PartialEq>(asked: &[T], allowed: &[T]) -> Vec<T> {
        let missing = asked.iter().filter(|name| !allowed.contains(name));
        missing.cloned().collect()
    }
    Names {
        uris: missing(&asked.uris, &allowed.uris),
        dns: missing(&asked.dns, &allowed.dns),
        ips: missing(&asked.ips, &allowed.ips),
        emails: missing(&asked.emails, &allowed.emails),
        others: asked.others,
    }
}

/// Visible ASCII with a scheme; a SPIFFE ID by its standard, and as the only URI (X509-SVID §2 and §5.2).
fn check_uris(uris: &[String]) -> Result<()> {
    let mut spiffe_id: Option<&String> = None;
    for uri in uris {
        let malformed = |reason: &str| anyhow!("{uri:?} is not a URI: {reason}");
        let (scheme, rest) = uri
            .split_once(':')
            .ok_or_else(|| malformed("it has no scheme"))?;
        let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(in_scheme)
        {
            return Err(malformed("its scheme is malformed"));
        }
        let forbidden = |c: char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(c);
        if rest.is_empty() || rest.contains(forbidden) {
            return Err(malformed(
                "it is empty, or has a character that must be percent-encoded",
            ));
        }
        if scheme.eq_ignore_ascii_case("spiffe") {
            uri.parse::<SpiffeId>()
                .map_err(|e| anyhow!("{uri:?} is not a SPIFFE ID: {e}"))?;
            if let Some(first) = spiffe_id.replace(uri) {
                bail!("a certificate has one SPIFFE ID; given are {first:?} and {uri:?}");
            }
        }
    }
    if let Some(id) = spiffe_id
        && let Some(other) = uris.iter().find(|uri| *uri != id)
    {
        bail!(
            "{id:?} is a SPIFFE ID, which must be the only URI, and {other:?} is another: issue two certificates"
        );
    }
    Ok(())
}

/// A host name in the preferred syntax (RFC 5280 §4.2.1.6), or such a one after `*.`.
fn check_dns(name: &str) -> Result<()> {
    let ensure = |right: bool, rule: &str| {
        ensure!(right, "{name:?} is not a DNS name: {rule}");
        Ok(())
    };
    ensure(
        name.parse::<IpAddr>().is_err(),
        "it is an IP address; give it with --ip, or no verifier will match it",
    )?;
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    ensure(
        name.len() <= 253 && host.split('.').all(is_label),
        "a host name is labels of letters, digits and hyphens, joined by dots",
    )?;
    ensure(
        host.len() == name.len() || host.contains('.'),
        "a wildcard must not cover a whole top-level domain",
    )?;
    let last = host.rsplit('.').next().unwrap_or_default();
    ensure(
        !last.bytes().all(|b| b.is_ascii_digit()),
        "its last label is a number, so that it looks like an IP address",
    )
}

fn check_email(address: &str) -> Result<()> {
    let well_formed = address.bytes().all(|b| b.is_ascii_graphic())
        && matches!(address.split('@').collect::<Vec<_>>()[..], [user, host] if !user.is_empty() && check_dns(host).is_ok());
    ensure!(
        well_formed,
        "{address:?} is not an e-mail address; it is written user@host"
    );
    Ok(())
}

/// Which side of a connection a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Servers only.
    Server,
    /// Clients only.
    Client,
    /// Both.
    Both,
}

impl Usage {
    fn purposes(self) -> Vec<Purpose> {
        match self {
            Self::Server => vec![Purpose::Server],
            Self::Client => vec![Purpose::Client],
            Self::Both => vec![Purpose::Server, Purpose::Client],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str], dns: &[&str], emails: &[&str]) -> Names {
        let owned = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
        Names {
            uris: owned(uris),
            dns: owned(dns),
            emails: owned(emails),
            ..Names::default()
        }
    }

    fn refusal(names: Names, subject: Option<&str>, usage: Option<Usage>) -> String {
        let subject = subject.map(|subject| subject.parse().unwrap());
        let refused = Request::new(names, subject, usage, KeyType::P256).unwrap_err();
        format!("{refused:#}")
    }

    #[test]
    fn a_malformed_name_is_refused_with_its_reason() {
        for (name, why) in [
            (names(&["orders"], &[], &[]), "no scheme"),
            (names(&["1x:y"], &[], &[]), "scheme is malformed"),
            (names(&["https:"], &[], &[]), "it is empty"),
            (names(&["https://a/b c"], &[], &[]), "percent-encoded"),
            (names(&["https://zürich"], &[], &[]), "percent-encoded"),
            (names(&["spiffe://Acme.test/a"], &[], &[]), "trust domain"),
            (names(&["SPIFFE://acme.test/a"], &[], &[]), "lower case"),
            (names(&["spiffe://acme.test"], &[], &[]), "path is missing"),
            (
                names(&["spiffe://a/b", "spiffe://a/c"], &[], &[]),
                "one SPIFFE ID",
            ),
            (
                names(&["spiffe://a/b", "spiffe://a/b"], &[], &[]),
                "one SPIFFE ID",
            ),
            (names(&[], &["127.0.0.1"], &[]), "--ip"),
            (names(&[], &["::1"], &[]), "--ip"),
            (names(&[], &["1.2.3.999"], &[]), "looks like an IP"),
            (names(&[], &[""], &[]), "labels"),
            (names(&[], &["a..b"], &[]), "labels"),
            (names(&[], &["a.b."], &[]), "labels"),
            (names(&[], &["-a"], &[]), "labels"),
            (names(&[], &["a\n"], &[]), "labels"),
            (names(&[], &["*"], &[]), "labels"),
            (names(&[], &["a.*.b"], &[]), "labels"),
            (names(&[], &["*.com"], &[]), "top-level"),
            (names(&[], &["a.test", "a.test"], &[]), "twice"),
            (names(&[], &[], &["a"]), "user@host"),
            (names(&[], &[], &["a@b@c"]), "user@host"),
            (names(&[], &[], &["@b"]), "user@host"),
            (names(&[], &[], &["a b@c"]), "user@host"),
        ] {
            let error = refusal(name.clone(), None, None);
            assert!(error.contains(why), "{name:?}: {error}");
        }
    }

    #[test]
    fn a_server_without_an_alternative_name_is_refused_even_with_a_subject() {
        let none = Names::default;
        assert!(refusal(none(), None, None).starts_with("no name is given"));
        for usage in [Usage::Server, Usage::Both] {
            let error = refusal(none(), Some("CN=localhost"), Some(usage));
            assert!(error.starts_with("a server certificate needs"), "{error}");
        }
        assert!(
            refusal(none(), Some("CN=a\\0ab"), None)
                .ends_with("the value of CN holds a control character")
        );
    }

    #[test]
    fn the_default_usage_is_what_the_names_allow() {
        let request = |names, subject: Option<&str>| {
            let subject = subject.map(|subject| subject.parse().unwrap());
            Request::new(names, subject, None, KeyType::P256)
                .unwrap()
                .usage
        };
        assert_eq!(request(names(&[], &["localhost"], &[]), None), Usage::Both);
        assert_eq!(
            request(Names::default(), Some("CN=mainframe")),
            Usage::Client
        );
    }
}
