//! The fields of a certificate, read without judging them. Malformed input is an error.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::{KeyType, Purpose, Serial, Validity};

/// A certificate, read field by field.
#[derive(Debug)]
pub struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    /// The subject alternative names.
    pub names: Names,
    /// The extended key usages; `None` when the extension is missing, which is not the same as an empty one.
    pub purposes: Option<Vec<Purpose>>,
    /// The serial number.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
    /// As it is encoded.
    pub(super) subject: Vec<u8>,
    issuer: Vec<u8>,
    /// The public key: a DER `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// The type of the public key, if this tool can make such keys.
    pub key_type: Option<KeyType>,
    /// Whether it is a CA certificate that may sign certificates.
    pub is_authority: bool,
    pub(super) subject_key_identifier: Option<Vec<u8>>,
    authority_key_identifier: Option<Vec<u8>>,
}

/// The subject alternative names of a certificate, each kind in the order of the certificate or of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct Names {
    /// A URI name, such as spiffe://acme.test/orders; all names may be repeated.
    #[arg(long = "uri", value_name = "URI")]
    pub uris: Vec<String>,
    /// A host name.
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// An IP address.
    #[arg(long = "ip", value_name = "ADDRESS")]
    pub ips: Vec<IpAddr>,
    /// An e-mail address.
    #[arg(long = "email", value_name = "ADDRESS")]
    pub emails: Vec<String>,
    /// How many there are of other kinds, and malformed ones; our services ignore them.
    #[arg(skip)]
    #[serde(skip)]
    pub others: usize,
}

impl Names {
    /// Each name, with what its kind is called: URIs, DNS names, IP addresses and e-mail addresses.
    pub(crate) fn labelled<'a>(
        &'a self,
        [uri, dns, ip, email]: [&'a str; 4],
    ) -> impl Iterator<Item = (&'a str, String)> {
        let uris = self.uris.iter().map(move |name| (uri, name.clone()));
        let dns = self.dns.iter().map(move |name| (dns, name.clone()));
        let ips = self.ips.iter().map(move |name| (ip, name.to_string()));
        let emails = self.emails.iter().map(move |name| (email, name.clone()));
        uris.chain(dns).chain(ips).chain(emails)
    }
}

fn malformed(reason: impl fmt::Display) -> anyhow::Error {
    anyhow!("this is not a well-formed certificate: {reason}")
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is not DER, there are bytes after its end, or an extension that is read here is malformed or comes twice.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(malformed)?;
        if !rest.is_empty() {
            bail!(malformed("there are bytes after its end"));
        }
        let key = parsed.public_key();
        let key_usage = parsed.key_usage().ok().flatten();
        let names = parsed.subject_alternative_name().map_err(malformed)?;
        let mut certificate = Self {
            der: der.clone().into_owned(),
            names: names.map_or_else(Names::default, |it| names_of(&it.value.general_names)),
            purposes: purposes(&parsed)?,
            serial: Serial::from_octets(parsed.raw_serial()).map_err(malformed)?,
            validity: Validity {
                not_before: parsed.validity().not_before.to_datetime(),
                not_after: parsed.validity().not_after.to_datetime(),
            },
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            public_key: key.raw.to_vec(),
            key_type: PublicKeyKind::of(key).key_type(),
            is_authority: parsed.is_ca()
                && key_usage.is_none_or(|usage| usage.value.key_cert_sign()),
            subject_key_identifier: None,
            authority_key_identifier: None,
        };
        for extension in parsed.iter_extensions() {
            if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
                certificate.subject_key_identifier = Some(id.0.to_vec());
            }
            if let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() {
                certificate.authority_key_identifier =
                    id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
        }
        Ok(certificate)
    }

    /// All of its fields.
    pub(crate) fn parsed(&self) -> Result<X509Certificate<'_>> {
        let (_, parsed) = X509Certificate::from_der(&self.der).map_err(malformed)?;
        Ok(parsed)
    }

    /// The subject as an RFC 4514 string; empty when there is none.
    ///
    /// # Errors
    /// A part of it is not text, or is dangerous to print.
    pub fn subject(&self) -> Result<String, identity::InvalidName> {
        identity::distinguished_name(&self.subject)
    }

    /// The issuer as an RFC 4514 string.
    ///
    /// # Errors
    /// A part of it is not text, or is dangerous to print.
    pub fn issuer(&self) -> Result<String, identity::InvalidName> {
        identity::distinguished_name(&self.issuer)
    }

    /// Whether its issuer is its subject, as in a root.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether it names `authority` as its issuer, by name and by key identifier if both have one. No signature is
    /// verified.
    pub fn names_issuer(&self, authority: &Self) -> bool {
        let ids = (
            &self.authority_key_identifier,
            &authority.subject_key_identifier,
        );
        let is_of_that_key = match ids {
            (Some(named), Some(own)) => named == own,
            (None, _) | (_, None) => true,
        };
        is_of_that_key && mtls::is_same_name(&self.issuer, &authority.subject)
    }

    /// Whether the key of `authority` signed it, by an algorithm that is known here.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok(own), Ok(authority)) = (self.parsed(), authority.parsed()) else {
            return false;
        };
        own.verify_signature(Some(authority.public_key())).is_ok()
    }

    /// Whether each part of the subject is one attribute, and no type comes twice.
    pub(super) fn subject_is_plain(&self) -> bool {
        let Ok((_, name)) = X509Name::from_der(&self.subject) else {
            return false;
        };
        let mut seen = HashSet::new();
        name.iter_rdn().all(|rdn| rdn.iter().count() == 1)
            && name
                .iter_attributes()
                .all(|it| seen.insert(it.attr_type().to_id_string()))
    }
}

/// The kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublicKeyKind {
    /// With so many bits.
    Rsa(usize),
    P256,
    P384,
    OtherCurve,
    Ed25519,
    Other,
}

impl PublicKeyKind {
    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let algorithm = &info.algorithm.algorithm;
        let curve = info.algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.as_oid().ok());
        if *algorithm == OID_SIG_ED25519 {
            Self::Ed25519
        } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
            Self::Rsa(info.parsed().map_or(0, |key| key.key_size()))
        } else if *algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
            Self::Other
        } else if curve == Some(OID_EC_P256) {
            Self::P256
        } else if curve == Some(OID_NIST_EC_P384) {
            Self::P384
        } else {
            Self::OtherCurve
        }
    }

    /// The type of such keys, if this tool can make them.
    pub(super) fn key_type(self) -> Option<KeyType> {
        match self {
            Self::Ed25519 => Some(KeyType::Ed25519),
            Self::P256 => Some(KeyType::P256),
            Self::Rsa(2048) => Some(KeyType::Rsa2048),
            Self::Rsa(3072) => Some(KeyType::Rsa3072),
            Self::Rsa(4096) => Some(KeyType::Rsa4096),
            Self::Rsa(_) | Self::P384 | Self::OtherCurve | Self::Other => None,
        }
    }
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

fn purposes(parsed: &X509Certificate<'_>) -> Result<Option<Vec<Purpose>>> {
    let Some(extension) = parsed.extended_key_usage().map_err(malformed)? else {
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
