//! `cert show --for`: what an operating system, a browser or Java refuses of a certificate that our services may accept,
//! and why.
//!
//! Each rule is the platform's own, for a root that its user or its administrator added. The stricter rules for public
//! authorities, such as 398 days, do not apply to those. No platform is asked, so silence here promises nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA, OID_SIG_ED25519, Oid,
};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::pki::certificate::{Certificate, PublicKeyKind as Kind};
use crate::pki::{Purpose, Validity};
use crate::text::Printable;

/// What is asked about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// macOS from 10.15 and iOS from 13 on, by Apple's published rules; not tested by us
    Macos,
    /// Chrome and Chromium, with a root that was added to the system or to NSS
    Chrome,
    /// The TLS of JDK 17
    Java,
}

/// Why a platform does not take a certificate.
#[derive(Clone, Debug, Serialize)]
struct Objection {
    /// Stable.
    code: &'static str,
    reason: String,
}

/// What one platform says.
#[derive(Debug, Serialize)]
pub(super) struct Opinion {
    platform: Platform,
    #[serde(flatten)]
    of: Of,
}

type ByRole = BTreeMap<&'static str, Vec<Objection>>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Of {
    /// Of a leaf: `as_client` and `as_server`.
    Leaf(ByRole),
    /// Of an authority that its user adds: `as_authority`.
    Authority(ByRole),
    /// Of a PKCS#12 file.
    Objections(Vec<Objection>),
}

impl Opinion {
    /// By the fields of a chain, the leaf first; no signature is verified.
    pub(super) fn new(platform: Platform, chain: &[Certificate]) -> Result<Self> {
        let leaf = chain.first().context("there is none")?;
        let mut of_path = Vec::new();
        for (index, certificate) in chain.iter().enumerate() {
            of_path.extend(platform.signature(index + 1, &certificate.parsed()?));
        }
        let fields = leaf.parsed()?;
        let in_role = |purpose| {
            let mut objections = platform.leaf(leaf, &fields, purpose);
            objections.extend(of_path.clone());
            objections
        };
        let of = match leaf.is_authority {
            true => Of::Authority([("as_authority", of_path)].into()),
            false => Of::Leaf(
                [
                    ("as_client", in_role(&Purpose::Client)),
                    ("as_server", in_role(&Purpose::Server)),
                ]
                .into(),
            ),
        };
        Ok(Self { platform, of })
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = self.platform.name();
        let roles = match &self.of {
            Of::Leaf(roles) | Of::Authority(roles) => roles
                .iter()
                .map(|(role, objections)| (format!("{}: ", role.replace('_', " ")), objections))
                .collect(),
            Of::Objections(objections) => vec![(String::new(), objections)],
        };
        for (role, objections) in roles {
            if objections.is_empty() {
                writeln!(out, "  {name:<10} {role}no reason to refuse it was found")?;
            }
            for Objection { code, reason } in objections {
                writeln!(out, "  {name:<10} {role}refuses: {code}: {reason}")?;
            }
        }
        Ok(())
    }
}

/// The longest that Apple accepts, by the roots of users and administrators too. A day here is 86,400 seconds.
const APPLE_DAYS: i64 = 825;

impl Platform {
    fn name(self) -> &'static str {
        match self {
            Self::Macos => "macOS",
            Self::Chrome => "Chrome",
            Self::Java => "Java",
        }
    }

    fn leaf(
        self,
        leaf: &Certificate,
        fields: &X509Certificate<'_>,
        purpose: &Purpose,
    ) -> Vec<Objection> {
        // The names and the lifetime of a client are for the server to judge.
        let of_server = match *purpose == Purpose::Server {
            true => [self.host_name(leaf, fields), self.lifetime(leaf.validity)],
            false => [None, None],
        };
        let objections = [
            self.usage(leaf, purpose),
            self.critical_names(leaf, fields),
            self.key_usage(fields),
            self.handshake_key(fields.public_key()),
        ];
        of_server.into_iter().chain(objections).flatten().collect()
    }

    fn host_name(self, leaf: &Certificate, fields: &X509Certificate<'_>) -> Option<Objection> {
        let names = &leaf.names;
        if let Some(address) = { names.dns.iter() }.find(|name| name.parse::<IpAddr>().is_ok()) {
            return objection(
                "IP_AS_DNS",
                format!(
                    "{address} is an IP address under DNS, where it names no host; put it under IP"
                ),
            );
        }
        if !names.dns.is_empty() || !names.ips.is_empty() {
            return None;
        }
        let missing = "it has no DNS name and no IP address as a subject alternative name";
        let why = match (fields.subject().iter_common_name().next(), self) {
            // Without a DNS name, the common name counts.
            (Some(_), Self::Java) => return None,
            (Some(_), Self::Macos | Self::Chrome) => "and the common name does not count",
            (None, _) => "so that it is no host's",
        };
        objection("NO_HOST_NAME", format!("{missing}, {why}"))
    }

    fn usage(self, leaf: &Certificate, wanted: &Purpose) -> Option<Objection> {
        match &leaf.purposes {
            None if self == Self::Macos && *wanted == Purpose::Server => objection(
                "NO_USAGE",
                "it has no extended key usage, and Apple requires serverAuth",
            ),
            None => None,
            Some(purposes) if purposes.contains(wanted) => None,
            Some(purposes) if self != Self::Macos && purposes.contains(&Purpose::Any) => None,
            Some(_) => objection(
                "WRONG_USAGE",
                format!("its extended key usages are without {wanted}"),
            ),
        }
    }

    fn lifetime(self, validity: Validity) -> Option<Objection> {
        let lifetime = validity.not_after - validity.not_before;
        if self != Self::Macos || lifetime <= time::Duration::days(APPLE_DAYS) {
            return None;
        }
        let days = lifetime.whole_days();
        objection(
            "VALID_TOO_LONG",
            format!("it is valid for {days} days, and Apple accepts {APPLE_DAYS}"),
        )
    }

    fn critical_names(self, leaf: &Certificate, fields: &X509Certificate<'_>) -> Option<Objection> {
        let names = fields.subject_alternative_name().ok().flatten();
        let is_wrong = leaf.subject().is_ok_and(|subject| subject.is_empty())
            && names.is_none_or(|extension| !extension.critical);
        if !is_wrong || self == Self::Macos {
            return None;
        }
        objection(
            "NAMES_NOT_CRITICAL",
            "it has no subject, and its alternative names are not marked as critical (RFC 5280 §4.2.1.6)",
        )
    }

    /// In TLS 1.3 a key signs, whatever else it may do.
    fn key_usage(self, fields: &X509Certificate<'_>) -> Option<Objection> {
        let usage = fields.key_usage().ok().flatten()?;
        if usage.value.digital_signature() || self == Self::Macos {
            return None;
        }
        objection("KEY_USAGE", "its key usage is without digitalSignature")
    }

    /// What the platform cannot use in a handshake, or finds too weak.
    fn handshake_key(self, key: &SubjectPublicKeyInfo<'_>) -> Option<Objection> {
        let what = match (Kind::of(key), self) {
            (Kind::Ed25519, Self::Macos | Self::Chrome) => "Ed25519",
            (Kind::Other, _) => "of another kind than RSA, ECDSA and Ed25519",
            (Kind::OtherCurve, Self::Chrome) => "on another curve than P-256 and P-384",
            (Kind::Rsa(_) | Kind::P256 | Kind::P384 | Kind::OtherCurve | Kind::Ed25519, _) => {
                return None;
            }
        };
        let name = self.name();
        objection(
            "KEY_UNSUPPORTED",
            format!("its key is {what}, which {name} does not use for TLS; take P-256"),
        )
    }

    /// What makes a certificate on the path weak: how it is signed, and what its key can sign.
    fn signature(self, position: usize, fields: &X509Certificate<'_>) -> Vec<Objection> {
        let name = self.name();
        let is_root = fields.subject().as_raw() == fields.issuer().as_raw();
        let algorithm = &fields.signature_algorithm.algorithm;
        let weak = match weak_hash(algorithm) {
            // Nobody verifies what a trusted root says of itself.
            Some(hash) if !is_root && (self != Self::Java || hash == "MD5") => objection(
                "WEAK_SIGNATURE",
                format!("certificate {position} is signed over {hash}"),
            ),
            Some(_) | None => None,
        };
        let unsupported = match *algorithm == OID_SIG_ED25519 && self != Self::Java {
            true => objection(
                "SIGNATURE_UNSUPPORTED",
                format!(
                    "certificate {position} is signed by an Ed25519 key, which {name} does not verify; take P-256"
                ),
            ),
            false => None,
        };
        let least = match self {
            Self::Macos => 2_048,
            Self::Chrome | Self::Java => 1_024,
        };
        let mut found: Vec<_> = weak.into_iter().chain(unsupported).collect();
        if let Kind::Rsa(bits) = Kind::of(fields.public_key())
            && bits < least
        {
            found.extend(objection(
                "WEAK_KEY",
                format!(
                    "the RSA key of certificate {position} has {bits} bits, and {name} wants {least}"
                ),
            ));
        }
        found
    }

    fn file(self, encryption: &[&str]) -> Option<Objection> {
        let is_modern = encryption.iter().any(|name| name.starts_with("PBES2"));
        if !is_modern || self != Self::Macos {
            return None;
        }
        objection(
            "PKCS12_MODERN",
            "the keychain does not read PBES2: write the file with `pki export --p12-compatible`",
        )
    }
}

fn objection(code: &'static str, reason: impl Into<String>) -> Option<Objection> {
    let reason = reason.into();
    Some(Objection { code, reason })
}

/// `ecdsa-with-SHA1`, which the registry of names lacks.
const ECDSA_WITH_SHA1: &[u64] = &[1, 2, 840, 10045, 4, 1];

fn weak_hash(algorithm: &Oid<'_>) -> Option<&'static str> {
    let is_ecdsa_with_sha1 = algorithm
        .iter()
        .is_some_and(|numbers| numbers.eq(ECDSA_WITH_SHA1.iter().copied()));
    if *algorithm == OID_PKCS1_MD5WITHRSAENC {
        Some("MD5")
    } else if *algorithm == OID_PKCS1_SHA1WITHRSA || is_ecdsa_with_sha1 {
        Some("SHA-1")
    } else {
        None
    }
}

/// How a PKCS#12 file protects what is in it, as far as that can be seen without its password.
#[derive(Debug, Serialize)]
pub(super) struct Pkcs12 {
    /// Each way of encryption that is in it.
    encryption: Vec<&'static str>,
    opinions: Vec<Opinion>,
}

/// Object identifiers in DER, and what they are. They stand in clear text before what they are about.
const PKCS12_ALGORITHMS: [(&[u8], &str); 4] = [
    (
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d",
        "PBES2 (AES)",
    ),
    (
        b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x03",
        "triple DES",
    ),
    (
        b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x06",
        "RC2 with 40 bits",
    ),
    (
        b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x05",
        "RC2 with 128 bits",
    ),
];

impl Pkcs12 {
    /// `None` when the bytes are no PKCS#12: a SEQUENCE that begins with the version 3 (RFC 7292 §4).
    pub(super) fn read(bytes: &[u8], platforms: &[Platform]) -> Option<Self> {
        let ([0x30, 0x80, content @ ..]
        | [0x30, 0x81, _, content @ ..]
        | [0x30, 0x82, _, _, content @ ..]
        | [0x30, 0x83, _, _, _, content @ ..]) = bytes
        else {
            return None;
        };
        if !content.starts_with(&[2, 1, 3]) {
            return None;
        }
        let is_in = |oid: &[u8]| bytes.windows(oid.len()).any(|window| window == oid);
        let encryption: Vec<_> = PKCS12_ALGORITHMS
            .iter()
            .filter_map(|(oid, name)| is_in(oid).then_some(*name))
            .collect();
        let opinions = platforms.iter().map(|&platform| {
            let of = Of::Objections(platform.file(&encryption).into_iter().collect());
            Opinion { platform, of }
        });
        Some(Self {
            opinions: opinions.collect(),
            encryption,
        })
    }

    pub(super) fn write(&self, file: &Path, out: &mut dyn Write) -> io::Result<()> {
        let file = Printable(file.display());
        let encryption = match self.encryption.is_empty() {
            true => "none that is known here".to_owned(),
            false => self.encryption.join(", "),
        };
        writeln!(out, "{file}: PKCS#12; encryption: {encryption}")?;
        self.opinions.iter().try_for_each(|it| it.write(out))
    }
}
