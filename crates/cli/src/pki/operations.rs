//! What the commands do to a PKI on the disk. Each takes the time from its caller, and prints nothing.

use std::path::Path;
use std::time::Duration;

use rcgen::PublicKeyData as _;
use time::OffsetDateTime;

use super::certificate::{Certificate, Malformed};
use super::encoding::NotPem;
use super::{
    Credentials, Directory, DirectoryError, Holder, IdentityName, InvalidLifetime, LeafSpec,
    NotRepeatable, Origin, Request, Revocation, Revocations, Roster, Serial, SigningRequest,
    TrustDomain, Validity,
};

/// How long a revocation list may be used. Any `revoke` or `crl` makes a new one.
pub const LIST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// What was done for one identity.
#[derive(Debug)]
pub enum Change {
    /// Its certificate is as it should be, until then.
    Kept(OffsetDateTime),
    /// It had no certificate and got one, valid until then.
    Issued(OffsetDateTime),
    /// It got a new certificate, valid until then, because of that.
    Replaced(OffsetDateTime, String),
    /// Its certificate is revoked, and it gets no new one by itself.
    Revoked(OffsetDateTime),
}

/// Makes the authority if there is none, and issues what the identities of `roster` lack.
///
/// # Errors
/// When the PKI is not usable or a file cannot be written.
pub fn init(
    path: &Path,
    roster: &Roster,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<(Origin, Vec<(IdentityName, Change)>), OperationError> {
    let (directory, origin) = Directory::init(path, now)?;
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
            Some(credentials) => settle(&directory, &revocations, name, &spec, &credentials, now)?,
        };
        changes.push((name.clone(), change));
    }
    Ok((origin, changes))
}

/// Issues what is asked for. An identity that has another certificate keeps it, unless `replace`.
///
/// # Errors
/// When it has another certificate, or something cannot be written.
pub fn issue(
    path: &Path,
    name: &IdentityName,
    request: &Request,
    signing_request: Option<&SigningRequest>,
    lifetime: Duration,
    replace: bool,
    now: OffsetDateTime,
) -> Result<Change, OperationError> {
    let directory = Directory::open(path, now)?;
    let validity = leaf_validity(&directory, lifetime, now)?;
    let spec = request.spec(validity);
    if !replace && signing_request.is_some_and(|it| directory.has_another_key(name, it)) {
        return Err(OperationError::OtherKey(name.clone()));
    }
    let change = match directory.credentials(name)? {
        None => Change::Issued(validity.not_after),
        Some(_) if replace => Change::Replaced(validity.not_after, "as told".to_owned()),
        Some(credentials) => {
            let held = credentials.request.as_ref().map(SigningRequest::public_key);
            let revocations = directory.revocations()?;
            return match judge(&directory, &revocations, &credentials, &spec, now)? {
                Condition::Right(until)
                    if held == signing_request.map(SigningRequest::public_key) =>
                {
                    Ok(Change::Kept(until))
                }
                Condition::Right(_) | Condition::Revoked(_) | Condition::Wrong(_) => {
                    Err(OperationError::Exists(name.clone()))
                }
            };
        }
    };
    put(&directory, name, &spec, signing_request)?;
    Ok(change)
}

/// The trust domain of the PKI: that of the SPIFFE ID of `name`, or else of the first identity that has one.
///
/// # Errors
/// When an identity cannot be read.
pub fn trust_domain(
    directory: &Directory,
    name: &IdentityName,
) -> Result<Option<TrustDomain>, OperationError> {
    for name in std::iter::once(name.clone()).chain(directory.identities()?) {
        let Some(credentials) = directory.credentials(&name)? else {
            continue;
        };
        let Ok(der) = credentials.leaf() else {
            continue;
        };
        let Ok(leaf) = Certificate::from_der(&der) else {
            continue;
        };
        let ids = leaf.names().uris.iter();
        let found = ids
            .filter_map(|uri| uri.parse::<identity::SpiffeId>().ok())
            .find_map(|id| id.trust_domain().parse().ok());
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Gives an identity a new certificate with a new key and serial number, and the same names and usages. One whose key
/// is not here keeps its key.
///
/// # Errors
/// When it has none, or one that was not made here, or is revoked.
pub fn renew(
    directory: &Directory,
    name: &IdentityName,
    lifetime: Option<Duration>,
    now: OffsetDateTime,
) -> Result<Change, OperationError> {
    let credentials = credentials(directory, name)?;
    let chain = credentials.leaf().map_err(|source| no_leaf(name, source))?;
    let old = Certificate::from_der(&chain).map_err(|source| unreadable(name, source))?;
    if let Some(at) = directory.revocations()?.of(old.serial()) {
        return Ok(Change::Revoked(at));
    }
    let lifetime = lifetime.unwrap_or_else(|| old.validity().lifetime());
    let validity = leaf_validity(directory, lifetime, now)?;
    let spec = LeafSpec::like(&old, validity).map_err(|source| OperationError::NotRepeatable {
        name: name.clone(),
        source,
    })?;
    put(directory, name, &spec, credentials.request.as_ref())?;
    let how = match credentials.request {
        None => "renewed",
        Some(_) => "renewed for the same key, which is not here",
    };
    Ok(Change::Replaced(validity.not_after, how.to_owned()))
}

/// When an identity's certificate is due for renewal: after two thirds of its lifetime.
///
/// # Errors
/// When it has none that can be read.
pub fn due(directory: &Directory, name: &IdentityName) -> Result<OffsetDateTime, OperationError> {
    let credentials = credentials(directory, name)?;
    let chain = credentials.leaf().map_err(|source| no_leaf(name, source))?;
    let leaf = Certificate::from_der(&chain).map_err(|source| unreadable(name, source))?;
    let validity = leaf.validity();
    Ok(validity.not_after - validity.lifetime() / 3)
}

/// Revokes a certificate, and gives the new list to every identity. One that is revoked already stays as it is.
/// Gives the number of the list.
///
/// # Errors
/// When the list cannot be read, signed or written.
pub fn revoke(
    directory: &Directory,
    serial: &Serial,
    now: OffsetDateTime,
) -> Result<Revocations, OperationError> {
    let mut revocations = directory.revocations()?;
    if revocations.of(serial).is_none() {
        revocations.entries.push(Revocation {
            serial: serial.clone(),
            at: now,
        });
    }
    publish(directory, revocations, now)
}

/// Signs the list again, with the next number and a new time, and gives it to every identity.
///
/// # Errors
/// When the list cannot be read, signed or written.
pub fn republish(
    directory: &Directory,
    now: OffsetDateTime,
) -> Result<Revocations, OperationError> {
    publish(directory, directory.revocations()?, now)
}

fn publish(
    directory: &Directory,
    mut revocations: Revocations,
    now: OffsetDateTime,
) -> Result<Revocations, OperationError> {
    revocations.number = revocations
        .number
        .checked_add(1)
        .ok_or(OperationError::NumberExhausted)?;
    directory.publish(&revocations, Validity::starting(now, LIST_LIFETIME)?)?;
    Ok(revocations)
}

/// The serial number of the certificate that an identity has now.
///
/// # Errors
/// When it has none that can be read.
pub fn serial_of(directory: &Directory, name: &IdentityName) -> Result<Serial, OperationError> {
    let credentials = credentials(directory, name)?;
    let chain = credentials.leaf().map_err(|source| no_leaf(name, source))?;
    let leaf = Certificate::from_der(&chain).map_err(|source| unreadable(name, source))?;
    Ok(leaf.serial().clone())
}

/// The credentials that an identity has.
///
/// # Errors
/// When it has none.
pub fn credentials(
    directory: &Directory,
    name: &IdentityName,
) -> Result<Credentials, OperationError> {
    directory
        .credentials(name)?
        .ok_or_else(|| OperationError::Unknown(name.clone()))
}

fn put(
    directory: &Directory,
    name: &IdentityName,
    spec: &LeafSpec,
    request: Option<&SigningRequest>,
) -> Result<(), OperationError> {
    let authority = directory.authority();
    match request {
        None => {
            let leaf = authority.issue(spec).map_err(DirectoryError::from)?;
            let key_pem = &leaf.key_pem;
            directory.put(name, &leaf.chain_pem, Holder::Us { key_pem })?;
        }
        Some(request) => {
            let chain_pem = authority
                .certify(spec, request)
                .map_err(DirectoryError::from)?;
            directory.put(name, &chain_pem, Holder::Them { request })?;
        }
    }
    Ok(())
}

/// A leaf that outlived its issuer would end with it all the same, and earlier than it says.
fn leaf_validity(
    directory: &Directory,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Validity, OperationError> {
    let validity = Validity::starting(now, lifetime)?;
    let authority = Certificate::from_der(directory.authority().certificate())
        .map_err(DirectoryError::from)?
        .validity();
    if validity.not_after > authority.not_after {
        return Err(OperationError::OutlivesAuthority(authority.not_after));
    }
    Ok(validity)
}

/// Keeps a certificate that is what `spec` asks for, and replaces any other that is not revoked.
fn settle(
    directory: &Directory,
    revocations: &Revocations,
    name: &IdentityName,
    spec: &LeafSpec,
    credentials: &Credentials,
    now: OffsetDateTime,
) -> Result<Change, OperationError> {
    match judge(directory, revocations, credentials, spec, now)? {
        Condition::Right(until) => Ok(Change::Kept(until)),
        Condition::Revoked(since) => Ok(Change::Revoked(since)),
        Condition::Wrong(why) => {
            put(directory, name, spec, credentials.request.as_ref())?;
            Ok(Change::Replaced(spec.validity.not_after, why))
        }
    }
}

enum Condition {
    Right(OffsetDateTime),
    Revoked(OffsetDateTime),
    Wrong(String),
}

/// Compares the credentials on the disk with what they should be.
fn judge(
    directory: &Directory,
    revocations: &Revocations,
    credentials: &Credentials,
    spec: &LeafSpec,
    now: OffsetDateTime,
) -> Result<Condition, OperationError> {
    let wrong = |why: &str| Ok(Condition::Wrong(why.to_owned()));
    let Ok(der) = credentials.leaf() else {
        return wrong("there was no certificate in the file");
    };
    let Ok(leaf) = Certificate::from_der(&der) else {
        return wrong("the old one was malformed");
    };
    let authority =
        Certificate::from_der(directory.authority().certificate()).map_err(DirectoryError::from)?;
    let key_matches = match &credentials.request {
        Some(request) => request.public_key() == leaf.public_key(),
        None => credentials
            .key()
            .is_some_and(|key| key.subject_public_key_info() == leaf.public_key()),
    };
    let key_is_private = credentials.key_is_private || credentials.key_pem.is_empty();
    if let Some(since) = revocations.of(leaf.serial()) {
        return Ok(Condition::Revoked(since));
    }
    if !leaf.names_issuer(&authority) || !leaf.is_signed_by(&authority) {
        return wrong("the old one was of another authority");
    }
    if !leaf.validity().contains(now) {
        return wrong("the old one had expired");
    }
    if !key_matches {
        return wrong("its key was missing or that of another certificate");
    }
    if !key_is_private {
        return wrong("its key could be read by others");
    }
    let wanted = LeafSpec {
        // The holder of the key chose its type.
        key_type: match &credentials.request {
            Some(request) => request.key_type(),
            None => spec.key_type,
        },
        ..spec.clone()
    };
    match LeafSpec::like(&leaf, spec.validity) {
        Ok(old) if old == wanted => Ok(Condition::Right(leaf.validity().not_after)),
        Ok(_) | Err(_) => wrong("its names, usage or kind of key have changed"),
    }
}

fn no_leaf(name: &IdentityName, source: NotPem) -> OperationError {
    OperationError::NoLeaf {
        name: name.clone(),
        source,
    }
}

fn unreadable(name: &IdentityName, source: Malformed) -> OperationError {
    OperationError::Unreadable {
        name: name.clone(),
        source,
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The PKI is not usable.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The lifetime is not one.
    #[error(transparent)]
    Lifetime(#[from] InvalidLifetime),
    /// The leaf would be valid for longer than its issuer.
    #[error(
        "that is longer than the issuing authority itself is valid, which is until {0}; give a shorter --ttl"
    )]
    OutlivesAuthority(OffsetDateTime),
    /// The identity has another certificate.
    #[error("{0} has a certificate already, and not this one; give --replace to replace it")]
    Exists(IdentityName),
    /// Its directory holds a key, and not the one that a request is for.
    #[error(
        "{0} has a key here, and the request is for another; move tls.key away, or give --replace to remove it"
    )]
    OtherKey(IdentityName),
    /// There is no such identity.
    #[error("{0} has no certificate here; `{tool} pki list` shows the identities that have one", tool = countersign::program::tool())]
    Unknown(IdentityName),
    /// There is no certificate in the file of an identity.
    #[error("{name}: {source}")]
    NoLeaf {
        /// Whose it is.
        name: IdentityName,
        /// What is wrong.
        source: NotPem,
    },
    /// The certificate of an identity is malformed.
    #[error("tls.crt of {name}: {source}")]
    Unreadable {
        /// Whose it is.
        name: IdentityName,
        /// What is wrong.
        source: Malformed,
    },
    /// The certificate cannot be made again.
    #[error("the certificate of {name} cannot be renewed here: {source}")]
    NotRepeatable {
        /// Whose it is.
        name: IdentityName,
        /// What it has that cannot be said here.
        source: NotRepeatable,
    },
    /// There are no more numbers.
    #[error("the revocation list has the highest number that there is")]
    NumberExhausted,
}
