//! Who calls in the demo: the development identities, and three whose certificates are refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::DemoError;
use super::spec::{MAX_FILE, Spec};
use crate::pki::{
    Authority, Directory, Holder, IdentityName, Leaf, Request, Roster, Usage, Validity,
};

/// The trust domain of the demo's identities, which is the default of `pki init`.
const DOMAIN: &str = "acme.test";

/// All of them, a row of the table each.
pub(super) struct Players(pub(super) Vec<Player>);

/// A row of the table: an identity, or one of the three.
pub(super) struct Player {
    pub(super) name: String,
    pub(super) presented: Presented,
    /// Whether the server should accept the certificate at all, so that the policy is asked.
    pub(super) admission: Admission,
}

/// What a caller shows.
pub(super) enum Presented {
    /// The certificate in this directory.
    Directory(PathBuf),
    /// No certificate; the directory is where it knows the server's root from.
    None(PathBuf),
}

/// What the server should make of the credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Accepted,
    Refused,
}

impl Players {
    pub(super) fn new(spec: &Spec, pki: &Path, now: OffsetDateTime) -> Result<Self, DemoError> {
        let file = spec.identities();
        let text = base::file::text(&file, MAX_FILE)?;
        let domain = DOMAIN.parse().map_err(super::data)?;
        let roster = Roster::parse(&file.display().to_string(), &text, &domain);
        let roster = roster.map_err(super::data)?;
        let mut players: Vec<_> = roster
            .entries()
            .map(|(name, request)| Player {
                name: name.to_string(),
                presented: Presented::Directory(pki.join(name.as_str())),
                // A certificate that is for servers alone is not for calling, so its row shows a refusal.
                admission: match request.usage() {
                    Usage::Client | Usage::Both => Admission::Accepted,
                    Usage::Server => Admission::Refused,
                },
            })
            .collect();
        // An identity that would be accepted with another certificate.
        let caller = &spec.rotation.identity;
        let request = roster.entries().find(|(name, _)| name.as_str() == caller);
        let (_, request) = request.ok_or_else(|| {
            super::data(format!("{}: there is no [{caller}] in it", file.display()))
        })?;
        players.extend(
            [
                (
                    "stranger (other CA)".to_owned(),
                    Presented::Directory(stranger(request, pki, now)?),
                ),
                (
                    format!("{caller}, expired"),
                    Presented::Directory(expired(request, pki, now)?),
                ),
                (
                    "no certificate".to_owned(),
                    Presented::None(pki.join(caller)),
                ),
            ]
            .map(|(name, presented)| Player {
                name,
                presented,
                admission: Admission::Refused,
            }),
        );
        Ok(Self(players))
    }
}

/// Has a caller's name by another authority, and knows ours, so that it accepts the server.
fn stranger(request: &Request, pki: &Path, now: OffsetDateTime) -> Result<PathBuf, DemoError> {
    let validity = Validity::starting(now, Duration::from_secs(3600)).map_err(super::data)?;
    let other = Authority::root("Stranger", validity)?;
    put(pki, "stranger", &other.issue(&request.spec(validity))?, now)
}

/// Had that name until a minute ago.
fn expired(request: &Request, pki: &Path, now: OffsetDateTime) -> Result<PathBuf, DemoError> {
    let minute = time::Duration::minutes(1);
    let validity = Validity {
        not_before: now - 60 * minute,
        not_after: now - minute,
    };
    let directory = Directory::open(pki, now)?;
    let leaf = directory.authority().issue(&request.spec(validity))?;
    drop(directory);
    put(pki, "expired", &leaf, now)
}

fn put(pki: &Path, name: &str, leaf: &Leaf, now: OffsetDateTime) -> Result<PathBuf, DemoError> {
    let identity: IdentityName = name.parse().map_err(super::data)?;
    let key_pem = &leaf.key_pem;
    Directory::open(pki, now)?.put(&identity, &leaf.chain_pem, Holder::Us { key_pem })?;
    Ok(pki.join(name))
}
