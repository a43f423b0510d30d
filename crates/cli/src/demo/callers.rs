//! Who calls in the demo: the development identities, and three whose certificates are refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use time::OffsetDateTime;

use super::spec::Spec;
use crate::pki::{
    Authority, Directory, Holder, Leaf, Request, Roster, TrustDomain, Usage, Validity,
};

/// All of them, a row of the table each.
pub(super) struct Players(pub(super) Vec<Player>);

/// A row of the table: an identity, or one of the three.
pub(super) struct Player {
    pub(super) name: String,
    /// Where its certificate is, and the root by which it knows the server.
    pub(super) directory: PathBuf,
    pub(super) presents: Presents,
}

/// What a caller shows to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presents {
    /// A certificate that the server accepts, so that the policy is asked.
    Accepted,
    /// A certificate that the server refuses.
    Refused,
    /// No certificate, which the server refuses.
    Nothing,
}

impl Players {
    pub(super) fn new(spec: &Spec, pki: &Path, now: OffsetDateTime) -> Result<Self> {
        let file = spec.identities();
        let roster = Roster::read(&file, &TrustDomain::default())?;
        let player = |name, directory, presents| Player {
            name,
            directory,
            presents,
        };
        let identities = roster.entries().map(|(name, request)| {
            // A certificate that is for servers alone is not for calling, so its row shows a refusal.
            let presents = match request.usage() {
                Usage::Client | Usage::Both => Presents::Accepted,
                Usage::Server => Presents::Refused,
            };
            player(name.to_string(), pki.join(name.as_str()), presents)
        });
        let revocation = spec.revocation.iter();
        for name in revocation.flat_map(|it| [&it.identity, &it.witness]) {
            ensure!(
                roster.entries().any(|(known, _)| known.as_str() == name),
                "{}: there is no [{name}] in it",
                file.display()
            );
        }
        // An identity that would be accepted with another certificate.
        let caller = &spec.rotation.identity;
        let request = roster.entries().find(|(name, _)| name.as_str() == caller);
        let (_, request) =
            request.with_context(|| format!("{}: there is no [{caller}] in it", file.display()))?;
        let (stranger, expired) = (stranger(request, pki, now)?, expired(request, pki, now)?);
        let refused = [
            player(
                "stranger (other CA)".to_owned(),
                stranger,
                Presents::Refused,
            ),
            player(format!("{caller}, expired"), expired, Presents::Refused),
            player(
                "no certificate".to_owned(),
                pki.join(caller),
                Presents::Nothing,
            ),
        ];
        Ok(Self(identities.chain(refused).collect()))
    }
}

/// Has a caller's name by another authority, and knows ours, so that it accepts the server.
fn stranger(request: &Request, pki: &Path, now: OffsetDateTime) -> Result<PathBuf> {
    let validity = Validity::starting(now, Duration::from_secs(3600))?;
    let other = Authority::root("Stranger", validity)?;
    put(pki, "stranger", &other.issue(&request.spec(validity))?, now)
}

/// Had that name until a minute ago.
fn expired(request: &Request, pki: &Path, now: OffsetDateTime) -> Result<PathBuf> {
    let minute = time::Duration::minutes(1);
    let validity = Validity {
        not_before: now - 60 * minute,
        not_after: now - minute,
    };
    let directory = Directory::open(pki, now)?;
    let leaf = directory.authority.issue(&request.spec(validity))?;
    drop(directory);
    put(pki, "expired", &leaf, now)
}

fn put(pki: &Path, name: &str, leaf: &Leaf, now: OffsetDateTime) -> Result<PathBuf> {
    let identity = name.parse().map_err(anyhow::Error::msg)?;
    let key_pem = &leaf.key_pem;
    Directory::open(pki, now)?.put(&identity, &leaf.chain_pem, Holder::Us { key_pem })?;
    Ok(pki.join(name))
}
