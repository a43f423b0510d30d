//! Requests of the command line for a certificate. What is not safe to issue is refused here.

use std::collections::HashSet;
use std::net::IpAddr;

use identity::{InvalidName, InvalidSpiffeId, SpiffeId};

use super::certificate::Names;
use super::signing_request::flags;
use super::{KeyType, LeafSpec, Purpose, SigningRequest, Subject, Validity};

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
    ) -> Result<Self, InvalidRequest> {
        let Names {
            uris,
            dns,
            ips,
            emails,
            others: _,
        } = &names;
        let nameless = uris.is_empty() && dns.is_empty() && ips.is_empty() && emails.is_empty();
        let usage = usage.unwrap_or(if nameless { Usage::Client } else { Usage::Both });
        if nameless && subject.is_none() {
            return Err(InvalidRequest::Nameless);
        }
        if nameless && usage != Usage::Client {
            return Err(InvalidRequest::ServerWithoutName);
        }
        check_uris(uris)?;
        dns.iter().try_for_each(|name| check_dns(name))?;
        emails.iter().try_for_each(|address| check_email(address))?;
        subject.as_ref().map(Subject::text).transpose()?;
        let mut seen = HashSet::new();
        let all = uris
            .iter()
            .chain(dns)
            .chain(emails)
            .cloned()
            .chain(ips.iter().map(IpAddr::to_string));
        match { all }.find(|name| !seen.insert(name.clone())) {
            Some(twice) => Err(InvalidRequest::Repeated(twice)),
            None => Ok(Self {
                names,
                subject,
                usage,
                key_type,
            }),
        }
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
    ) -> Result<Self, InvalidRequest> {
        let beyond = beyond(asked.names(), &allowed);
        if beyond != Names::default() {
            return Err(InvalidRequest::NotAllowed(flags(&beyond).join(" ")));
        }
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
        let Names {
            uris,
            dns,
            ips,
            emails,
            others: _,
        } = self.names.clone();
        LeafSpec {
            uris,
            dns,
            ips,
            emails,
            subject: self.subject.clone(),
            purposes: self.usage.purposes(),
            key_type: self.key_type,
            ..LeafSpec::client(validity)
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
fn check_uris(uris: &[String]) -> Result<(), InvalidRequest> {
    let mut spiffe_id: Option<&String> = None;
    for uri in uris {
        let malformed = |reason| InvalidRequest::Uri {
            uri: uri.clone(),
            reason,
        };
        let (scheme, rest) = uri.split_once(':').ok_or(malformed("it has no scheme"))?;
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
            if let Err(source) = uri.parse::<SpiffeId>() {
                return Err(InvalidRequest::SpiffeId {
                    id: uri.clone(),
                    source,
                });
            }
            if let Some(first) = spiffe_id.replace(uri) {
                return Err(InvalidRequest::TwoSpiffeIds(first.clone(), uri.clone()));
            }
        }
    }
    match (spiffe_id, uris.iter().find(|uri| Some(*uri) != spiffe_id)) {
        (Some(id), Some(other)) => Err(InvalidRequest::SpiffeIdNotAlone {
            id: id.clone(),
            other: other.clone(),
        }),
        (Some(_), None) | (None, _) => Ok(()),
    }
}

/// A host name in the preferred syntax (RFC 5280 §4.2.1.6), or such a one after `*.`.
fn check_dns(name: &str) -> Result<(), InvalidRequest> {
    let malformed = |reason| {
        Err(InvalidRequest::Dns {
            name: name.to_owned(),
            reason,
        })
    };
    if name.parse::<IpAddr>().is_ok() {
        return malformed("it is an IP address; give it with --ip, or no verifier will match it");
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !host.split('.').all(is_label) {
        return malformed("a host name is labels of letters, digits and hyphens, joined by dots");
    }
    if host.len() < name.len() && !host.contains('.') {
        return malformed("a wildcard must not cover a whole top-level domain");
    }
    if host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    {
        return malformed("its last label is a number, so that it looks like an IP address");
    }
    Ok(())
}

fn check_email(address: &str) -> Result<(), InvalidRequest> {
    let well_formed = address.bytes().all(|b| b.is_ascii_graphic())
        && matches!(address.split('@').collect::<Vec<_>>()[..], [user, host] if !user.is_empty() && check_dns(host).is_ok());
    if well_formed {
        Ok(())
    } else {
        Err(InvalidRequest::Email(address.to_owned()))
    }
}

/// Why a certificate is not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// There is no name at all.
    #[error(
        "no name is given; give --uri, --dns, --ip or --email, or --subject for a client that has only that"
    )]
    Nameless,
    /// A server is found by its alternative names, and by nothing else (RFC 9525 §2).
    #[error(
        "a server certificate needs a subject alternative name: give --dns, --ip or --uri, or --usage client"
    )]
    ServerWithoutName,
    /// A URI that is none.
    #[error("{uri:?} is not a URI: {reason}")]
    Uri {
        /// As given.
        uri: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A URI that claims to be a SPIFFE ID and is none.
    #[error("{id:?} is not a SPIFFE ID: {source}")]
    SpiffeId {
        /// As given.
        id: String,
        /// The rule that it breaks.
        source: InvalidSpiffeId,
    },
    /// Two SPIFFE IDs in one certificate.
    #[error("a certificate has one SPIFFE ID; given are {0:?} and {1:?}")]
    TwoSpiffeIds(String, String),
    /// A SPIFFE ID is the only URI of a certificate.
    #[error(
        "{id:?} is a SPIFFE ID, which must be the only URI, and {other:?} is another: issue two certificates"
    )]
    SpiffeIdNotAlone {
        /// The SPIFFE ID.
        id: String,
        /// The other URI.
        other: String,
    },
    /// A DNS name that is none.
    #[error("{name:?} is not a DNS name: {reason}")]
    Dns {
        /// As given.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An e-mail address that is none.
    #[error("{0:?} is not an e-mail address; it is written user@host")]
    Email(String),
    /// A subject that could forge a line of a log, or that no service would read.
    #[error("the subject is not issued: {0}")]
    Subject(#[from] InvalidName),
    /// A signing request asks for names that the command line does not allow.
    #[error(
        "the request asks for names that are not allowed; allow them with {0}, or all of them with --as-requested"
    )]
    NotAllowed(String),
    /// A name twice.
    #[error("{0:?} is given twice")]
    Repeated(String),
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
        Request::new(names, subject, usage, KeyType::P256)
            .unwrap_err()
            .to_string()
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
