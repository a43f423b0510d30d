//! End-entity certificates: what is asked for, and what was made.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::signature::Ed25519KeyPair;
use pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
};

use super::certificate::{Certificate, Names};
use super::{Serial, Subject, Validity};

/// What a leaf is to say. It is made as specified, also when no verifier would accept it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafSpec {
    /// The URI subject alternative names, such as a SPIFFE ID.
    pub uris: Vec<String>,
    /// The DNS subject alternative names.
    pub dns: Vec<String>,
    /// The IP address subject alternative names.
    pub ips: Vec<IpAddr>,
    /// The e-mail subject alternative names.
    pub emails: Vec<String>,
    /// The subject; empty when `None`.
    pub subject: Option<Subject>,
    /// The extended key usages; the extension is left out when there are none.
    pub purposes: Vec<Purpose>,
    /// From when until when it is valid.
    pub validity: Validity,
    /// What key is generated for it.
    pub key_type: KeyType,
    /// Whether it calls itself a certificate authority, which a leaf must never do (RFC 5280 §4.2.1.9).
    pub authority: bool,
}

impl LeafSpec {
    /// A nameless leaf for TLS clients; the names are for the caller to fill in.
    pub fn client(validity: Validity) -> Self {
        Self::named(Names::default(), vec![Purpose::Client], validity)
    }

    /// A nameless leaf for TLS servers; the names are for the caller to fill in.
    pub fn server(validity: Validity) -> Self {
        Self::named(Names::default(), vec![Purpose::Server], validity)
    }

    pub(super) fn named(names: Names, purposes: Vec<Purpose>, validity: Validity) -> Self {
        let Names {
            uris,
            dns,
            ips,
            emails,
            others: _,
        } = names;
        Self {
            uris,
            dns,
            ips,
            emails,
            subject: None,
            purposes,
            validity,
            key_type: KeyType::P256,
            authority: false,
        }
    }

    /// What a certificate says, for another time: the same names, usages and kind of key.
    ///
    /// # Errors
    /// When it says something that cannot be said here.
    pub fn like(certificate: &Certificate, validity: Validity) -> Result<Self> {
        let (names, purposes) = (&certificate.names, &certificate.purposes);
        let others = names.others;
        if others > 0 {
            bail!("it has {others} alternative names of other kinds than URI, DNS, IP and e-mail");
        }
        certificate
            .subject()
            .context("its subject cannot be written down")?;
        Ok(Self {
            subject: Subject::from_der(&certificate.subject),
            key_type: certificate.key_type.context(OTHER_KEY)?,
            authority: certificate.is_authority,
            ..Self::named(
                names.clone(),
                purposes.clone().unwrap_or_default(),
                validity,
            )
        })
    }

    pub(super) fn params(&self, serial: &Serial) -> Result<CertificateParams> {
        let mut params = CertificateParams::default();
        self.validity.apply(&mut params);
        params.serial_number = Some(SerialNumber::from_slice(serial.octets()));
        params.distinguished_name = DistinguishedName::new();
        if self.subject.is_some() {
            // In the place of the subject, which the authority puts there.
            params.distinguished_name.push(DnType::CommonName, "");
        }
        params.subject_alt_names = self.alternative_names()?;
        params.is_ca = if self.authority {
            IsCa::Ca(rcgen::BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.purposes.iter().map(Purpose::to_rcgen).collect();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn alternative_names(&self) -> Result<Vec<SanType>> {
        let uris = self.uris.iter().map(|uri| ascii("URI", uri, SanType::URI));
        let dns = self.dns.iter();
        let dns = dns.map(|name| ascii("DNS name", name, SanType::DnsName));
        let ips = self.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
        let emails = self.emails.iter();
        let emails = emails.map(|it| ascii("e-mail address", it, SanType::Rfc822Name));
        uris.chain(dns).chain(ips).chain(emails).collect()
    }
}

/// Why a key cannot get a certificate from this tool.
pub(super) const OTHER_KEY: &str =
    "its key is none of P-256, Ed25519 and RSA of 2048, 3072 or 4096 bits";

fn ascii(
    kind: &'static str,
    name: &str,
    make: fn(rcgen::string::Ia5String) -> SanType,
) -> Result<SanType> {
    let name = name.try_into().with_context(|| {
        format!("{kind} {name:?} cannot be written into a certificate; only ASCII is allowed there")
    })?;
    Ok(make(name))
}

/// What a certificate may be used for: an extended key usage (RFC 5280 §4.2.1.12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `serverAuth`: it identifies a TLS server.
    Server,
    /// `clientAuth`: it identifies a TLS client.
    Client,
    /// `codeSigning`: of no use to TLS.
    CodeSigning,
    /// `anyExtendedKeyUsage`: whatever the verifier takes that for.
    Any,
    /// Any other, by its object identifier.
    Other(Vec<u64>),
}

impl Purpose {
    fn to_rcgen(&self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Self::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
            Self::Any => ExtendedKeyUsagePurpose::Any,
            Self::Other(oid) => ExtendedKeyUsagePurpose::Other(oid.clone()),
        }
    }
}

impl fmt::Display for Purpose {
    /// As RFC 5280 names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("serverAuth"),
            Self::Client => f.write_str("clientAuth"),
            Self::CodeSigning => f.write_str("codeSigning"),
            Self::Any => f.write_str("anyExtendedKeyUsage"),
            Self::Other(oid) => {
                let arcs: Vec<_> = oid.iter().map(ToString::to_string).collect();
                f.write_str(&arcs.join("."))
            }
        }
    }
}

/// The kind of a private key. All are written as PKCS#8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// ECDSA on NIST P-256: small, fast, and read by everything.
    #[default]
    P256,
    /// Ed25519: no browser accepts it in a certificate.
    Ed25519,
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
}

impl KeyType {
    pub(super) fn generate(self) -> Result<KeyPair> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Ed25519 => ed25519(),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
        .context("cannot generate a private key")
    }
}

/// rcgen writes version 2 of PKCS#8 (RFC 5958), which OpenSSL 3.0 does not read; this is version 1 (RFC 8410
/// §7).
fn ed25519() -> Result<KeyPair, rcgen::Error> {
    let pkcs8 = Ed25519KeyPair::generate()
        .and_then(|key| key.to_pkcs8v1())
        .map_err(|_unspecified| rcgen::Error::RingUnspecified)?;
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
}

/// A leaf with its private key, as a server or client presents it.
#[derive(Clone)]
pub struct Leaf {
    /// The leaf and the intermediates up to, not including, the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    pub chain_pem: String,
    /// The private key: PKCS#8 as PEM, not encrypted.
    pub key_pem: String,
    /// Its serial number.
    pub serial: Serial,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}
