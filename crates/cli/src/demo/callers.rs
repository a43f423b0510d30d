//! Who calls in the demo: the development identities, and three that no policy ever gets to see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::DemoError;
use crate::pki::{Authority, Directory, Holder, IdentityName, Leaf, LeafSpec, Validity};

/// The development identities, in the order of the table.
const IDENTITIES: [&str; 7] = [
    "inventory",
    "orders",
    "catalog",
    "auditor",
    "marketing",
    "billing",
    "mainframe",
];

/// Everybody who calls.
pub(super) struct Callers(pub(super) Vec<Caller>);

/// One who calls.
pub(super) struct Caller {
    pub(super) name: &'static str,
    pub(super) credentials: Credentials,
    /// Whether the server should accept the certificate at all, so that the policy is asked.
    pub(super) standing: Standing,
}

/// What a caller shows.
pub(super) enum Credentials {
    /// The certificate in this directory.
    Directory(PathBuf),
    /// No certificate; the directory is where it knows the server's root from.
    None(PathBuf),
}

/// What the server should make of the credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Accepted,
    Refused,
}

impl Callers {
    pub(super) fn new(pki: &Path, now: OffsetDateTime) -> Result<Self, DemoError> {
        // The server's certificate is not for calling, so its own row shows a refusal.
        let mut callers: Vec<_> = IDENTITIES
            .into_iter()
            .map(|name| Caller {
                name,
                credentials: Credentials::Directory(pki.join(name)),
                standing: if name == "inventory" {
                    Standing::Refused
                } else {
                    Standing::Accepted
                },
            })
            .collect();
        callers.extend(
            [
                (
                    "stranger (other CA)",
                    Credentials::Directory(stranger(pki, now)?),
                ),
                (
                    "orders, expired",
                    Credentials::Directory(expired(pki, now)?),
                ),
                ("no certificate", Credentials::None(pki.join("orders"))),
            ]
            .map(|(name, credentials)| Caller {
                name,
                credentials,
                standing: Standing::Refused,
            }),
        );
        Ok(Self(callers))
    }
}

/// Has the name of orders by another authority, and knows ours, so that it accepts the server.
fn stranger(pki: &Path, now: OffsetDateTime) -> Result<PathBuf, DemoError> {
    let validity = Validity::starting(now, Duration::from_secs(3600)).map_err(super::data)?;
    let other = Authority::root("Stranger", validity)?;
    put(pki, "stranger", &other.issue(&orders(validity))?, now)
}

/// Was orders until a minute ago.
fn expired(pki: &Path, now: OffsetDateTime) -> Result<PathBuf, DemoError> {
    let minute = time::Duration::minutes(1);
    let validity = Validity {
        not_before: now - 60 * minute,
        not_after: now - minute,
    };
    let directory = Directory::open(pki, now)?;
    let leaf = directory.authority().issue(&orders(validity))?;
    drop(directory);
    put(pki, "expired", &leaf, now)
}

fn orders(validity: Validity) -> LeafSpec {
    LeafSpec {
        uris: vec!["spiffe://acme.test/orders".to_owned()],
        ..LeafSpec::client(validity)
    }
}

fn put(pki: &Path, name: &str, leaf: &Leaf, now: OffsetDateTime) -> Result<PathBuf, DemoError> {
    let identity: IdentityName = name.parse().map_err(super::data)?;
    let key_pem = &leaf.key_pem;
    Directory::open(pki, now)?.put(&identity, &leaf.chain_pem, Holder::Us { key_pem })?;
    Ok(pki.join(name))
}
