//! `cert show --for`: what an operating system, a browser or Java refuses of a certificate that our services may accept,
//! and why.
//!
//! Each rule is the platform's own, for a root that its user or its administrator added. The stricter rules for public
//! authorities, such as 398 days, do not apply to those. Nobody is asked: what is not said here is not promised.

use std::io::{self, Write};

use clap::ValueEnum;
use pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA1WITHRSA, OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::pki::certificate::{Certificate, Malformed};
use crate::pki::{Purpose, Validity};

/// What is asked about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// macOS from 10.15 and iOS from 13 on, by Apple's published rules; not tried by us
    Macos,
    /// Chrome and Chromium, with a root that was added to the system or to NSS
    Chrome,
    /// The TLS of JDK 17
    Java,
}

/// Why a platform does not take a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Objection {
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Of {
    /// Of a leaf, in each role.
    Leaf {
        as_client: Vec<Objection>,
        as_server: Vec<Objection>,
    },
    /// Of an authority, as one that its user adds.
    Authority { as_authority: Vec<Objection> },
}

impl Opinion {
    /// By the fields of a chain, the leaf first; no signature is verified.
    pub(super) fn new(
        platform: Platform,
        chain: &[Certificate<'_>],
        ders: &[CertificateDer<'_>],
    ) -> Result<Self, Malformed> {
        let parsed = ders
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_rest, parsed)| parsed))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Malformed::new)?;
        let signed: Vec<_> = parsed
            .iter()
            .enumerate()
            .flat_map(|(index, it)| platform.signature(index + 1, it))
            .collect();
        let (Some(leaf), Some(fields)) = (chain.first(), parsed.first()) else {
            return Err(Malformed::new("there is none"));
        };
        let of = if leaf.is_authority() {
            Of::Authority {
                as_authority: signed,
            }
        } else {
            let in_role = |own: Vec<Objection>| own.into_iter().chain(signed.clone()).collect();
            Of::Leaf {
                as_client: in_role(platform.client(leaf, fields)),
                as_server: in_role(platform.server(leaf, fields)),
            }
        };
        Ok(Self { platform, of })
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = self.platform.name();
        let roles = match &self.of {
            Of::Leaf {
                as_client,
                as_server,
            } => vec![("client", as_client), ("server", as_server)],
            Of::Authority { as_authority } => vec![("authority", as_authority)],
        };
        for (role, objections) in roles {
            if objections.is_empty() {
                writeln!(
                    out,
                    "  {name:<10} as {role}: nothing is seen that it refuses"
                )?;
            }
            for Objection { code, reason } in objections {
                writeln!(out, "  {name:<10} as {role}: refuses: {code}: {reason}")?;
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

    fn server(self, leaf: &Certificate<'_>, fields: &X509Certificate<'_>) -> Vec<Objection> {
        let objections = [
            self.host_name(leaf, fields),
            self.usage(leaf, &Purpose::Server),
            self.lifetime(leaf.validity()),
            self.critical_names(leaf, fields),
            self.key_usage(fields),
            self.handshake_key(fields.public_key()),
        ];
        objections.into_iter().flatten().collect()
    }

    /// The names of a client are for the server to judge.
    fn client(self, leaf: &Certificate<'_>, fields: &X509Certificate<'_>) -> Vec<Objection> {
        let objections = [
            self.usage(leaf, &Purpose::Client),
            self.critical_names(leaf, fields),
            self.key_usage(fields),
            self.handshake_key(fields.public_key()),
        ];
        objections.into_iter().flatten().collect()
    }

    fn host_name(self, leaf: &Certificate<'_>, fields: &X509Certificate<'_>) -> Option<Objection> {
        let names = leaf.names();
        if let Some(address) = names.dns.iter().find(|name| is_address(name)) {
            return Some(Objection::new(
                "IP_AS_DNS",
                format!(
                    "{address} is an IP address under DNS, where it names no host; put it under IP"
                ),
            ));
        }
        if !names.dns.is_empty() || !names.ips.is_empty() {
            return None;
        }
        let has_common_name = fields.subject().iter_common_name().next().is_some();
        match self {
            // Without a DNS name, the common name counts.
            Self::Java if has_common_name => None,
            Self::Macos | Self::Chrome | Self::Java => Some(Objection::new(
                "NO_HOST_NAME",
                match has_common_name {
                    true => "it has no DNS name and no IP address as a subject alternative name, and the common name does not count",
                    false => "it has no DNS name and no IP address as a subject alternative name, so that it is no host's",
                }
                .to_owned(),
            )),
        }
    }

    fn usage(self, leaf: &Certificate<'_>, wanted: &Purpose) -> Option<Objection> {
        match (leaf.purposes(), self, wanted) {
            (None, Self::Macos, Purpose::Server) => Some(Objection::new(
                "NO_USAGE",
                "it has no extended key usage, and Apple requires serverAuth".to_owned(),
            )),
            (None, _, _) => None,
            (Some(purposes), Self::Chrome | Self::Java, _) if purposes.contains(&Purpose::Any) => {
                None
            }
            (Some(purposes), _, _) => (!purposes.contains(wanted)).then(|| {
                let text = format!("its extended key usages are without {wanted}");
                Objection::new("WRONG_USAGE", text)
            }),
        }
    }

    fn lifetime(self, validity: Validity) -> Option<Objection> {
        let Validity {
            not_before,
            not_after,
        } = validity;
        let lifetime = not_after - not_before;
        let too_long = self == Self::Macos && lifetime > time::Duration::days(APPLE_DAYS);
        too_long.then(|| {
            let days = lifetime.whole_days();
            let text = format!("it is valid for {days} days, and Apple accepts {APPLE_DAYS}");
            Objection::new("VALID_TOO_LONG", text)
        })
    }

    fn critical_names(
        self,
        leaf: &Certificate<'_>,
        fields: &X509Certificate<'_>,
    ) -> Option<Objection> {
        let names = fields.subject_alternative_name().ok().flatten();
        let is_wrong = leaf.subject().is_ok_and(|subject| subject.is_empty())
            && names.is_none_or(|extension| !extension.critical);
        (is_wrong && self != Self::Macos).then(|| {
            Objection::new(
                "NAMES_NOT_CRITICAL",
                "it has no subject, and its alternative names are not marked as critical (RFC 5280 §4.2.1.6)".to_owned(),
            )
        })
    }

    /// In TLS 1.3 a key signs, whatever else it may do.
    fn key_usage(self, fields: &X509Certificate<'_>) -> Option<Objection> {
        let usage = fields.key_usage().ok().flatten()?;
        let is_wrong = !usage.value.digital_signature();
        (is_wrong && self != Self::Macos).then(|| {
            Objection::new(
                "KEY_USAGE",
                "its key usage is without digitalSignature".to_owned(),
            )
        })
    }

    /// What the platform cannot use in a handshake, or finds too weak.
    fn handshake_key(self, key: &SubjectPublicKeyInfo<'_>) -> Option<Objection> {
        let unsupported = |what: &str| {
            let text = format!(
                "its key is {what}, which {} does not use for TLS; take P-256",
                self.name()
            );
            Some(Objection::new("KEY_UNSUPPORTED", text))
        };
        match (Key::of(key), self) {
            (Key::Ed25519, Self::Macos | Self::Chrome) => unsupported("Ed25519"),
            (Key::Other, _) => unsupported("of another kind than RSA, ECDSA and Ed25519"),
            (Key::OtherCurve, Self::Chrome) => unsupported("on another curve than P-256 and P-384"),
            (Key::Rsa(_) | Key::P256 | Key::P384 | Key::OtherCurve | Key::Ed25519, _) => None,
        }
    }

    /// What makes a certificate on the path weak: how it is signed, and what its key can sign.
    fn signature(self, position: usize, fields: &X509Certificate<'_>) -> Vec<Objection> {
        let mut objections = Vec::new();
        let is_root = fields.subject().as_raw() == fields.issuer().as_raw();
        let algorithm = &fields.signature_algorithm.algorithm;
        // Nobody verifies what a trusted root says of itself.
        let hash = (!is_root).then(|| weak_hash(algorithm)).flatten();
        if let Some(hash) = hash
            && (self != Self::Java || hash == "MD5")
        {
            let text = format!("certificate {position} is signed over {hash}");
            objections.push(Objection::new("WEAK_SIGNATURE", text));
        }
        if *algorithm == OID_SIG_ED25519 && self != Self::Java {
            let text = format!(
                "certificate {position} is signed by an Ed25519 key, which {} does not verify; take P-256",
                self.name()
            );
            objections.push(Objection::new("SIGNATURE_UNSUPPORTED", text));
        }
        let least = match self {
            Self::Macos => 2_048,
            Self::Chrome | Self::Java => 1_024,
        };
        if let Key::Rsa(bits) = Key::of(fields.public_key())
            && bits < least
        {
            let text = format!(
                "the RSA key of certificate {position} has {bits} bits, and {} wants {least}",
                self.name()
            );
            objections.push(Objection::new("WEAK_KEY", text));
        }
        objections
    }
}

impl Objection {
    fn new(code: &'static str, reason: String) -> Self {
        Self { code, reason }
    }
}

enum Key {
    /// With so many bits.
    Rsa(usize),
    P256,
    P384,
    OtherCurve,
    Ed25519,
    Other,
}

impl Key {
    fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let algorithm = &info.algorithm.algorithm;
        let curve = info.algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.as_oid().ok());
        if *algorithm == OID_SIG_ED25519 {
            Self::Ed25519
        } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
            let bits = info.parsed().map(|key| key.key_size());
            Self::Rsa(bits.unwrap_or_default())
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

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

/// How a PKCS#12 file protects what is in it, as far as that can be seen without its password.
#[derive(Debug, Serialize)]
pub(super) struct Pkcs12 {
    /// Each way of encryption that is in it.
    encryption: Vec<&'static str>,
    opinions: Vec<Pkcs12Opinion>,
}

#[derive(Debug, Serialize)]
struct Pkcs12Opinion {
    platform: Platform,
    objections: Vec<Objection>,
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
        let opinions = platforms.iter().map(|&platform| Pkcs12Opinion {
            platform,
            objections: platform.pkcs12(&encryption),
        });
        Some(Self {
            opinions: opinions.collect(),
            encryption,
        })
    }

    pub(super) fn write(&self, file: &str, out: &mut dyn Write) -> io::Result<()> {
        let encryption = match self.encryption.is_empty() {
            true => "none that is known here".to_owned(),
            false => self.encryption.join(", "),
        };
        writeln!(out, "{file}: PKCS#12; encryption: {encryption}")?;
        for Pkcs12Opinion {
            platform,
            objections,
        } in &self.opinions
        {
            let name = platform.name();
            if objections.is_empty() {
                writeln!(out, "  {name:<10} nothing is seen that it refuses")?;
            }
            for Objection { code, reason } in objections {
                writeln!(out, "  {name:<10} refuses: {code}: {reason}")?;
            }
        }
        Ok(())
    }
}

impl Platform {
    fn pkcs12(self, encryption: &[&str]) -> Vec<Objection> {
        let is_modern = encryption.iter().any(|name| name.starts_with("PBES2"));
        match self {
            Self::Macos if is_modern => vec![Objection::new(
                "PKCS12_MODERN",
                "the keychain does not read PBES2: write the file with `pki export --p12-compatible`"
                    .to_owned(),
            )],
            Self::Macos | Self::Chrome | Self::Java => Vec::new(),
        }
    }
}
