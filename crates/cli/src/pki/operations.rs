//! What the commands do to a PKI on the disk. Each takes the time from its caller, and prints nothing.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base::text::timestamp;
use countersign::program::tool;
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::credentials::{Credentials, Holder};
use super::{
    Directory, Group, IdentityName, LeafSpec, Origin, Request, Revocation, Revocations, Roster,
    Serial, SigningRequest, TrustDomain, Validity,
};

/// How long a revocation list may be used. Any `revoke` or `crl` makes a new one.
const LIST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// What was done for one identity.
pub(super) enum Change {
    /// Its certificate is as it should be, until then.
    Kept(OffsetDateTime),
    /// It had no certificate and got one, valid until then.
    Issued(OffsetDateTime),
    /// It got a new certificate, valid until then, because of that.
    Replaced(OffsetDateTime, &'static str),
    /// Its certificate was revoked then, and it gets no new one unless told.
    Revoked(OffsetDateTime),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(until) => write!(f, "kept: valid until {}", timestamp(*until)),
            Self::Issued(until) => write!(f, "issued: valid until {}", timestamp(*until)),
            Self::Replaced(until, why) => {
                write!(f, "replaced, {why}: valid until {}", timestamp(*until))
            }
            Self::Revoked(since) => write!(f, "left as it is: revoked {}", timestamp(*since)),
        }
    }
}

/// Makes the authority if there is none, and issues what the identities of `roster` lack.
pub(super) fn init(
    path: &Path,
    roster: &Roster,
    readers: Option<Group>,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<(Origin, Vec<(IdentityName, Change)>)> {
    let (directory, origin) = Directory::init(path, readers, now)?;
    let validity = leaf_validity(&directory, lifetime, now)?;
    let revocations = directory.revocations()?;
    let mut changes = Vec::new();
    for (name, request) in roster.entries() {
        let spec = request.spec(validity);
        let change = match directory.credentials(name)? {
            None => {
                put(&directory, name, &spec, None)?;
                Change::Issued(validity.not_after)
            }
            Some(held) => {
                directory.share(name)?;
                match compare(&directory, &revocations, &held, &spec, now) {
                    Condition::Right(until) => Change::Kept(until),
                    Condition::Revoked(since) => Change::Revoked(since),
                    Condition::Wrong(why) => {
                        put(&directory, name, &spec, held.request.as_ref())?;
                        Change::Replaced(validity.not_after, why)
                    }
                }
            }
        };
        changes.push((name.clone(), change));
    }
    Ok((origin, changes))
}

/// Issues what is asked for. An identity that has another certificate keeps it, unless `replace`.
pub(super) fn issue(
    directory: &Directory,
    name: &IdentityName,
    request: &Request,
    signing_request: Option<&SigningRequest>,
    lifetime: Duration,
    replace: bool,
    now: OffsetDateTime,
) -> Result<Change> {
    let validity = leaf_validity(directory, lifetime, now)?;
    let spec = request.spec(validity);
    ensure!(
        replace || !signing_request.is_some_and(|it| directory.has_another_key(name, it)),
        "{name} has a key here, and the request is for another; move tls.key away, or give --replace to remove it"
    );
    let change = match directory.credentials(name)? {
        None => Change::Issued(validity.not_after),
        Some(_) if replace => Change::Replaced(validity.not_after, "as told"),
        Some(held) => {
            let revocations = directory.revocations()?;
            let condition = compare(directory, &revocations, &held, &spec, now);
            let key = |it: &SigningRequest| it.public_key().to_vec();
            let same_key = held.request.as_ref().map(key) == signing_request.map(key);
            match condition {
                Condition::Right(until) if same_key => {
                    directory.share(name)?;
                    return Ok(Change::Kept(until));
                }
                Condition::Right(_) | Condition::Revoked(_) | Condition::Wrong(_) => {
                    bail!(
                        "{name} has a certificate already, and not this one; give --replace to replace it"
                    )
                }
            }
        }
    };
    put(directory, name, &spec, signing_request)?;
    Ok(change)
}

/// The trust domain of the PKI: that of the SPIFFE ID of `name`, or else of the first identity that has one.
pub(super) fn trust_domain(
    directory: &Directory,
    name: &IdentityName,
) -> Result<Option<TrustDomain>> {
    for name in std::iter::once(name.clone()).chain(directory.identities()?) {
        let Some(Ok(leaf)) = directory.credentials(&name)?.map(|held| held.leaf()) else {
            continue;
        };
        let mut ids = leaf.names().uris.iter();
        let found = ids.find_map(|uri| {
            let id = uri.parse::<identity::SpiffeId>().ok()?;
            id.trust_domain().parse().ok()
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Gives an identity a new certificate with a new key and serial number, and the same names and usages. One whose key
/// is not here keeps its key.
pub(super) fn renew(
    directory: &Directory,
    name: &IdentityName,
    lifetime: Option<Duration>,
    now: OffsetDateTime,
) -> Result<Change> {
    let (held, old) = leaf(directory, name)?;
    directory.share(name)?;
    if let Some(at) = directory.revocations()?.of(old.serial()) {
        return Ok(Change::Revoked(at));
    }
    let lifetime = lifetime.unwrap_or_else(|| old.validity().lifetime());
    let validity = leaf_validity(directory, lifetime, now)?;
    let spec = LeafSpec::like(&old, validity)
        .with_context(|| format!("the certificate of {name} cannot be renewed here"))?;
    put(directory, name, &spec, held.request.as_ref())?;
    let how = match held.request {
        None => "renewed",
        Some(_) => "renewed for the same key, which is not here",
    };
    Ok(Change::Replaced(validity.not_after, how))
}

/// When an identity's certificate is due for renewal: after two thirds of its lifetime.
pub(super) fn due(directory: &Directory, name: &IdentityName) -> Result<OffsetDateTime> {
    let validity = leaf(directory, name)?.1.validity();
    Ok(validity.not_after - validity.lifetime() / 3)
}

/// Signs the revocation list with the next number and a new time, and gives it to every identity. It has `revoked` too,
/// from now on unless that was revoked before.
pub(super) fn publish(
    directory: &Directory,
    revoked: Option<&Serial>,
    now: OffsetDateTime,
) -> Result<Revocations> {
    let mut revocations = directory.revocations()?;
    if let Some(serial) = revoked
        && revocations.of(serial).is_none()
    {
        revocations.entries.push(Revocation {
            serial: serial.clone(),
            at: now,
        });
    }
    let next = revocations.number.checked_add(1);
    revocations.number =
        next.context("the revocation list has the highest number that there is")?;
    directory.publish(&revocations, Validity::starting(now, LIST_LIFETIME)?)?;
    Ok(revocations)
}

/// The credentials that an identity has, which must be there, and its certificate.
pub(super) fn leaf(
    directory: &Directory,
    name: &IdentityName,
) -> Result<(Credentials, Certificate)> {
    let held = directory.credentials(name)?.with_context(|| {
        format!(
            "{name} has no certificate here; `{} pki list` shows the identities that have one",
            tool()
        )
    })?;
    let leaf = held.leaf().with_context(|| name.to_string())?;
    Ok((held, leaf))
}

fn put(
    directory: &Directory,
    name: &IdentityName,
    spec: &LeafSpec,
    request: Option<&SigningRequest>,
) -> Result<()> {
    let authority = directory.authority();
    match request {
        None => {
            let leaf = authority.issue(spec)?;
            let key_pem = &leaf.key_pem;
            directory.put(name, &leaf.chain_pem, Holder::Us { key_pem })
        }
        Some(request) => {
            let chain_pem = authority.certify(spec, request)?;
            directory.put(name, &chain_pem, Holder::Them { request })
        }
    }
}

/// A leaf that outlived its issuer would end with it all the same, and earlier than it says.
fn leaf_validity(
    directory: &Directory,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Validity> {
    let validity = Validity::starting(now, lifetime)?;
    let end = directory.issuing().validity().not_after;
    ensure!(
        validity.not_after <= end,
        "that is longer than the issuing authority itself is valid, which is until {}; give a shorter --ttl",
        timestamp(end)
    );
    Ok(validity)
}

enum Condition {
    Right(OffsetDateTime),
    Revoked(OffsetDateTime),
    Wrong(&'static str),
}

/// Compares the credentials on the disk with what they should be.
fn compare(
    directory: &Directory,
    revocations: &Revocations,
    held: &Credentials,
    spec: &LeafSpec,
    now: OffsetDateTime,
) -> Condition {
    let Ok(leaf) = held.leaf() else {
        return Condition::Wrong("there was no certificate in the file that can be read");
    };
    if let Some(since) = revocations.of(leaf.serial()) {
        return Condition::Revoked(since);
    }
    let authority = directory.issuing();
    if !leaf.names_issuer(authority) || !leaf.is_signed_by(authority) {
        return Condition::Wrong("the old one was of another authority");
    }
    if !leaf.validity().contains(now) {
        return Condition::Wrong("the old one had expired");
    }
    let (key_matches, key_type) = match &held.request {
        // The holder of the key chose its type.
        Some(request) => (
            request.public_key() == leaf.public_key(),
            request.key_type(),
        ),
        None => (held.key_of(&leaf).is_some(), spec.key_type),
    };
    if !key_matches {
        return Condition::Wrong("its key was missing or that of another certificate");
    }
    if !held.key_is_private && !held.key_pem.is_empty() {
        return Condition::Wrong("its key could be read by others");
    }
    let wanted = LeafSpec {
        key_type,
        ..spec.clone()
    };
    match LeafSpec::like(&leaf, spec.validity) {
        Ok(old) if old == wanted => Condition::Right(leaf.validity().not_after),
        Ok(_) | Err(_) => Condition::Wrong("its names, usage or kind of key have changed"),
    }
}
