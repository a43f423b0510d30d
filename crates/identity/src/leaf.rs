//! Reads the [`Peer`] from the DER of a verified path.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use crate::distinguished_name::{is_common_name, to_text};
use crate::{InvalidPeer, Peer, Role, SpiffeId};

/// Names in one certificate. Each is compared on every call, so their number is bounded.
pub(crate) const MAX_NAMES: usize = 128;
/// Bytes in one name: the limit of a SPIFFE ID, which is more than any other kind needs.
const MAX_NAME: usize = 2048;

pub(crate) fn read<C: AsRef<[u8]>>(role: Role, path: &[C]) -> Result<Peer, InvalidPeer> {
    let certificates: Vec<_> = path
        .iter()
        .enumerate()
        .map(|(position, der)| parse(position, der.as_ref()))
        .collect::<Result<_, _>>()?;
    let (Some(leaf), Some(leaf_der)) = (certificates.first(), path.first()) else {
        return Err(InvalidPeer::NoCertificate);
    };
    let (root, root_der) = (
        certificates.last().unwrap_or(leaf),
        path.last().unwrap_or(leaf_der),
    );
    check_usage(role, leaf)?;
    let names = SanNames::of(leaf)?;
    let subject =
        to_text(leaf.subject()).map_err(|source| InvalidPeer::MalformedDistinguishedName {
            whose: "subject",
            source,
        })?;
    let issuer =
        to_text(leaf.issuer()).map_err(|source| InvalidPeer::MalformedDistinguishedName {
            whose: "issuer",
            source,
        })?;
    let common_names = leaf
        .subject()
        .iter_attributes()
        .filter(|a| is_common_name(a.attr_type()))
        .count();
    if common_names > 1 {
        return Err(InvalidPeer::RepeatedCommonName(common_names));
    }
    if subject.is_empty() && names.is_empty() {
        return Err(InvalidPeer::Nameless);
    }

    let validities = certificates
        .iter()
        .map(|certificate| certificate.validity());
    let not_before = validities.clone().map(|v| system_time(v.not_before)).max();
    let not_after = validities.map(|v| system_time(v.not_after)).min();
    Ok(Peer {
        spiffe_id: names.spiffe_id()?,
        uri_sans: names.uri,
        dns_sans: names.dns,
        ip_sans: names.ip,
        email_sans: names.email,
        subject,
        issuer,
        serial: serial(leaf),
        fingerprint: fingerprint(leaf_der.as_ref()),
        root_subject: to_text(root.subject()).unwrap_or_default(),
        root_fingerprint: fingerprint(root_der.as_ref()),
        not_before: not_before.ok_or(InvalidPeer::NoCertificate)?,
        not_after: not_after.ok_or(InvalidPeer::NoCertificate)?,
    })
}

fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    fingerprint
}

fn parse(position: usize, der: &[u8]) -> Result<X509Certificate<'_>, InvalidPeer> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(InvalidPeer::Unreadable {
            position,
            reason: "bytes follow it".to_owned(),
        }),
        Err(error) => Err(InvalidPeer::Unreadable {
            position,
            reason: error.to_string(),
        }),
    }
}

fn check_usage(role: Role, leaf: &X509Certificate<'_>) -> Result<(), InvalidPeer> {
    let may_be_ca = leaf
        .basic_constraints()
        .map_err(|e| unreadable(&e))?
        .is_some_and(|bc| bc.value.ca);
    let key_usage = leaf
        .key_usage()
        .map_err(|e| unreadable(&e))?
        .map(|usage| usage.value);
    if may_be_ca || key_usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign()) {
        return Err(InvalidPeer::LeafIsCa);
    }
    if key_usage.is_some_and(|usage| !usage.digital_signature()) {
        return Err(InvalidPeer::NoDigitalSignature);
    }
    let purposes = leaf
        .extended_key_usage()
        .map_err(|e| unreadable(&e))?
        .map(|purposes| purposes.value);
    let (has_purpose, purpose) = match role {
        Role::Client => (purposes.is_some_and(|p| p.client_auth), "clientAuth"),
        Role::Server => (purposes.is_some_and(|p| p.server_auth), "serverAuth"),
    };
    if has_purpose {
        Ok(())
    } else {
        Err(InvalidPeer::WrongPurpose(purpose))
    }
}

fn unreadable(error: &X509Error) -> InvalidPeer {
    InvalidPeer::Unreadable {
        position: 0,
        reason: error.to_string(),
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SanNames {
    pub(crate) uri: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) ip: Vec<IpAddr>,
    pub(crate) email: Vec<String>,
}

impl SanNames {
    fn of(leaf: &X509Certificate<'_>) -> Result<Self, InvalidPeer> {
        let mut names = Self::default();
        let Some(extension) = leaf
            .subject_alternative_name()
            .map_err(|e| unreadable(&e))?
        else {
            return Ok(names);
        };
        let all = &extension.value.general_names;
        if all.len() > MAX_NAMES {
            return Err(InvalidPeer::TooManyNames(all.len()));
        }
        for name in all {
            match name {
                GeneralName::URI(uri) => names.uri.push(uri_name(uri)?),
                GeneralName::DNSName(dns) => names.dns.push(dns_name(dns)?),
                GeneralName::RFC822Name(email) => names.email.push(email_name(email)?),
                GeneralName::IPAddress(octets) => names.ip.push(address(octets)?),
                GeneralName::Invalid(_, bytes) => {
                    let name = bytes
                        .escape_ascii()
                        .take(MAX_NAME)
                        .map(char::from)
                        .collect();
                    return Err(malformed("other", name, "it is not of its ASN.1 type"));
                }
                // A policy cannot match these.
                GeneralName::OtherName(..)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        Ok(names)
    }

    /// The same names, if a certificate may have them.
    pub(crate) fn checked(self) -> Result<Self, InvalidPeer> {
        let checked = |names: Vec<String>, check: fn(&str) -> Result<String, InvalidPeer>| {
            let names = names.iter().map(|name| check(name));
            names.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            uri: checked(self.uri, uri_name)?,
            dns: checked(self.dns, dns_name)?,
            ip: self.ip,
            email: checked(self.email, |email| visible("e-mail", email))?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.uri.is_empty() && self.dns.is_empty() && self.ip.is_empty() && self.email.is_empty()
    }

    pub(crate) fn spiffe_id(&self) -> Result<Option<SpiffeId>, InvalidPeer> {
        let mut claims = self.uri.iter().filter(|uri| SpiffeId::is_claimed_by(uri));
        let Some(id) = claims.next() else {
            return Ok(None);
        };
        if let Some(second) = claims.next() {
            return Err(InvalidPeer::TwoSpiffeIds(id.clone(), second.clone()));
        }
        if let Some(other) = self.uri.iter().find(|uri| *uri != id) {
            return Err(InvalidPeer::SpiffeIdNotAlone {
                id: id.clone(),
                other: other.clone(),
            });
        }
        let parsed = id.parse();
        parsed
            .map(Some)
            .map_err(|source| InvalidPeer::MalformedSpiffeId {
                id: id.clone(),
                source,
            })
    }
}

/// A policy compares names of all kinds as text, so each must look like its kind: a DNS name that reads like a SPIFFE
/// ID or a subject could match the rule of another caller.
fn uri_name(name: &str) -> Result<String, InvalidPeer> {
    let name = visible("URI", name)?;
    // RFC 3986 §3.1.
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    match name.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => Ok(name),
        Some(_) | None => Err(malformed("URI", name, "it has no scheme")),
    }
}

/// Labels of letters, digits, hyphens and, as in practice, underscores; the first may be a wildcard (RFC 9525 §6.3).
fn dns_name(name: &str) -> Result<String, InvalidPeer> {
    let name = visible("DNS", name)?;
    match no_host_name(name.strip_prefix("*.").unwrap_or(&name)) {
        None => Ok(name),
        Some(reason) => Err(malformed("DNS", name, reason)),
    }
}

fn no_host_name(name: &str) -> Option<&'static str> {
    /// RFC 1035 §2.3.4; a name of 253 characters has 255 octets on the wire.
    const MAX_LABEL: usize = 63;
    const MAX_HOST: usize = 253;
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !name.split('.').all(is_label) {
        return Some("it is not a host name");
    }
    if name.len() > MAX_HOST {
        return Some("it is longer than the 253 characters of a host name");
    }
    if name.split('.').any(|label| label.len() > MAX_LABEL) {
        return Some("a label of it is longer than 63 characters");
    }
    None
}

/// A mailbox with a host (RFC 5280 §4.2.1.6), its local part without quotes, so that it cannot be read as a URI.
fn email_name(name: &str) -> Result<String, InvalidPeer> {
    let name = visible("e-mail", name)?;
    // RFC 5322 §3.2.3.
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    match name.split_once('@') {
        Some((local, host)) if local.split('.').all(is_atom) && no_host_name(host).is_none() => {
            Ok(name)
        }
        Some(_) | None => Err(malformed(
            "e-mail",
            name,
            "it is not a mailbox such as ops@acme.test",
        )),
    }
}

/// An `IA5String` of a name: visible ASCII and nothing else (RFC 5280 §4.2.1.6).
fn visible(kind: &'static str, name: &str) -> Result<String, InvalidPeer> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is too long"
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        "it has characters other than visible ASCII"
    } else {
        return Ok(name.to_owned());
    };
    Err(malformed(
        kind,
        name.chars().take(MAX_NAME).collect(),
        reason,
    ))
}

fn address(octets: &[u8]) -> Result<IpAddr, InvalidPeer> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or(v6).map_err(|_neither| {
        malformed(
            "IP",
            format!("{octets:02x?}"),
            "an address has 4 or 16 bytes",
        )
    })
}

fn malformed(kind: &'static str, name: String, reason: &'static str) -> InvalidPeer {
    InvalidPeer::MalformedName { kind, name, reason }
}

fn serial(leaf: &X509Certificate<'_>) -> String {
    let bytes = leaf.raw_serial();
    let bytes = bytes
        .strip_prefix(&[0])
        .filter(|rest| !rest.is_empty())
        .unwrap_or(bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(offset)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(offset)
    };
    // This system cannot represent the time: use one long past, so that nothing is valid by it.
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
