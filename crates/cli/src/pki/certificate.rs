//! The fields of a certificate, read without judging them. Malformed input is an error.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::{InvalidSerial, KeyType, Purpose, Serial, Validity};

/// A certificate, read field by field.
#[derive(Debug)]
pub struct Certificate<'a> {
    parsed: X509Certificate<'a>,
    names: Names,
    purposes: Option<Vec<Purpose>>,
    serial: Serial,
    validity: Validity,
}

/// The subject alternative names of a certificate, each kind in the order of the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The URIs.
    pub uris: Vec<String>,
    /// The DNS names.
    pub dns: Vec<String>,
    /// The IP addresses.
    pub ips: Vec<IpAddr>,
    /// The e-mail addresses.
    pub emails: Vec<String>,
    /// How many there are of other kinds, and malformed ones; no service of ours looks at them.
    pub others: usize,
}

/// Why bytes are not a certificate.
#[derive(Debug, thiserror::Error)]
#[error("this is not a well-formed certificate: {reason}")]
pub struct Malformed {
    reason: String,
}

impl Malformed {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

impl From<InvalidSerial> for Malformed {
    fn from(invalid: InvalidSerial) -> Self {
        Self::new(invalid)
    }
}

impl<'a> Certificate<'a> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is not DER, has something after its end, or an extension that is read here is malformed or
    /// doubled.
    pub fn from_der(der: &'a CertificateDer<'_>) -> Result<Self, Malformed> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(Malformed::new)?;
        if !rest.is_empty() {
            return Err(Malformed::new("there are bytes after its end"));
        }
        Ok(Self {
            names: names(&parsed)?,
            purposes: purposes(&parsed)?,
            serial: Serial::from_octets(parsed.raw_serial())?,
            validity: Validity {
                not_before: parsed.validity().not_before.to_datetime(),
                not_after: parsed.validity().not_after.to_datetime(),
            },
            parsed,
        })
    }

    /// The subject alternative names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The extended key usages, or `None` when the extension is missing, which is not the same as none of
    /// them.
    pub fn purposes(&self) -> Option<&[Purpose]> {
        self.purposes.as_deref()
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// From when until when it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The subject as an RFC 4514 string; empty when there is none.
    ///
    /// # Errors
    /// When a part of it is not text, or is dangerous to print.
    pub fn subject(&self) -> Result<String, identity::InvalidName> {
        identity::distinguished_name(self.parsed.subject().as_raw())
    }

    /// The subject as it is encoded.
    pub(super) fn subject_der(&self) -> &[u8] {
        self.parsed.subject().as_raw()
    }

    /// The issuer as an RFC 4514 string.
    ///
    /// # Errors
    /// When a part of it is not text, or is dangerous to print.
    pub fn issuer(&self) -> Result<String, identity::InvalidName> {
        identity::distinguished_name(self.parsed.issuer().as_raw())
    }

    /// The public key: a DER `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        self.parsed.public_key().raw
    }

    /// The kind of the public key, when it is one that can be made here.
    pub fn key_type(&self) -> Option<KeyType> {
        key_type_of(self.parsed.public_key())
    }

    /// Whether it says that it is an authority and may sign certificates.
    pub fn is_authority(&self) -> bool {
        let key_usage = self.parsed.key_usage().ok().flatten();
        self.parsed.is_ca() && key_usage.is_none_or(|usage| usage.value.key_cert_sign())
    }

    /// Whether its issuer is its subject, as with a root.
    pub fn is_self_issued(&self) -> bool {
        self.parsed.subject().as_raw() == self.parsed.issuer().as_raw()
    }

    /// Whether it names `authority` as its issuer, by name and by key identifier. The signature is not looked
    /// at.
    pub fn names_issuer(&self, authority: &Certificate<'_>) -> bool {
        self.parsed.issuer().as_raw() == authority.parsed.subject().as_raw()
            && self.authority_key_identifier() == authority.subject_key_identifier()
    }

    /// Whether the key of `authority` signed it, by an algorithm that is known here.
    pub fn is_signed_by(&self, authority: &Certificate<'_>) -> bool {
        self.parsed
            .verify_signature(Some(authority.parsed.public_key()))
            .is_ok()
    }

    /// The subject key identifier, if any.
    pub(super) fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.parsed.iter_extensions().find_map(|extension| {
            if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
                Some(id.0)
            } else {
                None
            }
        })
    }

    fn authority_key_identifier(&self) -> Option<&[u8]> {
        self.parsed.iter_extensions().find_map(|extension| {
            if let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() {
                id.key_identifier.as_ref().map(|id| id.0)
            } else {
                None
            }
        })
    }

    /// Whether each part of the subject is one attribute, and no type comes twice.
    pub(super) fn subject_is_plain(&self) -> bool {
        let name: &X509Name<'_> = self.parsed.subject();
        let mut seen = HashSet::new();
        name.iter_rdn().all(|rdn| rdn.iter().count() == 1)
            && name
                .iter_attributes()
                .all(|it| seen.insert(it.attr_type().to_id_string()))
    }
}

/// The kind of a public key, when it is one that can be made here.
pub(super) fn key_type_of(info: &SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    if info.algorithm.algorithm == OID_SIG_ED25519 {
        return Some(KeyType::Ed25519);
    }
    let key = info.parsed().ok()?;
    match (&key, key.key_size()) {
        (PublicKey::EC(_), 256) => Some(KeyType::P256),
        (PublicKey::RSA(_), 2048) => Some(KeyType::Rsa2048),
        (PublicKey::RSA(_), 3072) => Some(KeyType::Rsa3072),
        (PublicKey::RSA(_), 4096) => Some(KeyType::Rsa4096),
        _ => None,
    }
}

fn names(parsed: &X509Certificate<'_>) -> Result<Names, Malformed> {
    let extension = parsed.subject_alternative_name().map_err(Malformed::new)?;
    Ok(extension.map_or_else(Names::default, |extension| {
        names_of(&extension.value.general_names)
    }))
}

pub(super) fn names_of(general_names: &[GeneralName<'_>]) -> Names {
    let mut names = Names::default();
    for name in general_names {
        match name {
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
            GeneralName::IPAddress(octets) => match address(octets) {
                Some(ip) => names.ips.push(ip),
                None => names.others += 1,
            },
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => names.others += 1,
        }
    }
    names
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

fn purposes(parsed: &X509Certificate<'_>) -> Result<Option<Vec<Purpose>>, Malformed> {
    let Some(extension) = parsed.extended_key_usage().map_err(Malformed::new)? else {
        return Ok(None);
    };
    let usage = extension.value;
    let pkix = |last| Purpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, last]);
    let known = [
        (usage.server_auth, Purpose::Server),
        (usage.client_auth, Purpose::Client),
        (usage.code_signing, Purpose::CodeSigning),
        (usage.any, Purpose::Any),
        (usage.email_protection, pkix(4)),
        (usage.time_stamping, pkix(8)),
        (usage.ocsp_signing, pkix(9)),
    ];
    let known = known
        .into_iter()
        .filter_map(|(is, purpose)| is.then_some(purpose));
    let others = usage
        .other
        .iter()
        .filter_map(|oid| Some(Purpose::Other(oid.iter()?.collect())));
    Ok(Some(known.chain(others).collect()))
}
