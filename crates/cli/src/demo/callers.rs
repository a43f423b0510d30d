//! Who calls in the demo: the development identities, and three whose certificates are refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use time::OffsetDateTime;

use super::spec::Spec;
use crate::pki::{
    Authority, Directory, Holder, Leaf, Request, Roster, TrustDomain, Usage, Validity,
};

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

/// All of them, a row of the table each.
pub(super) fn players(spec: &Spec, pki: &Path, now: OffsetDateTime) -> Result<Vec<Player>> {
    let roster = Roster::read(&spec.identities(), &TrustDomain::default())?;
    let player = |name, directory: &str, presents| Player {
        name,
        directory: pki.join(directory),
        presents,
    };
    let identities = roster.entries().map(|(name, request)| {
        // A certificate that is for servers alone is not for calling, so its row shows a refusal.
        let presents = match request.usage() {
            Usage::Client | Usage::Both => Presents::Accepted,
            Usage::Server => Presents::Refused,
        };
        player(name.to_string(), name.as_str(), presents)
    });
    // An identity that would be accepted with another certificate.
    let caller = &spec.rotation.identity;
    let mut entries = roster.entries();
    let found = entries.find(|(name, _)| name.as_str() == caller);
    let (_, request) = found.with_context(|| format!("there is no identity {caller}"))?;
    make_refused(request, pki, now)?;
    let stranger = "stranger (other CA)".to_owned();
    let refused = [
        player(stranger, STRANGER, Presents::Refused),
        player(format!("{caller}, expired"), EXPIRED, Presents::Refused),
        player("no certificate".to_owned(), caller, Presents::Nothing),
    ];
    Ok(identities.chain(refused).collect())
}

/// Has a caller's name by another authority, and knows ours, so that it accepts the server.
const STRANGER: &str = "stranger";
/// Had that name until a minute ago.
const EXPIRED: &str = "expired";

fn make_refused(request: &Request, pki: &Path, now: OffsetDateTime) -> Result<()> {
    let directory = Directory::open(pki, now)?;
    let put = |name: &str, leaf: &Leaf| {
        let name = name.parse().map_err(anyhow::Error::msg)?;
        let key_pem = &leaf.key_pem;
        directory.put(&name, &leaf.chain_pem, Holder::Us { key_pem })
    };
    let validity = Validity::starting(now, Duration::from_secs(3600))?;
    let other = Authority::root("Stranger", validity)?;
    put(STRANGER, &other.issue(&request.spec(validity))?)?;
    let minute = time::Duration::minutes(1);
    let past = Validity {
        not_before: now - 60 * minute,
        not_after: now - minute,
    };
    put(EXPIRED, &directory.authority.issue(&request.spec(past))?)
}
