//! What the commands do to a PKI on the disk. Nothing is printed here.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base::text::timestamp;
use countersign::program::tool;
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::change::CertificateChange;
use super::credentials::{Credentials, Holder};
use super::{
    Directory, IdentityName, LeafSpec, Request, Revocation, Revocations, Serial, SigningRequest,
    TrustDomain, Validity,
};

/// How long a revocation list may be used. Any `revoke` or `crl` makes a new one.
const LIST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// How the credentials on the disk compare with what they should be.
enum Condition {
    Right(OffsetDateTime),
    Revoked(OffsetDateTime),
    Wrong(&'static str),
}

impl Directory {
    /// Issues what an identity of dev.toml lacks.
    pub(super) fn provide(
        &self,
        name: &IdentityName,
        request: &Request,
        lifetime: Duration,
    ) -> Result<CertificateChange> {
        let validity = self.leaf_validity(lifetime)?;
        let spec = request.spec(validity);
        let Some(held) = self.credentials(name)? else {
            self.put_leaf(name, &spec, None)?;
            return Ok(CertificateChange::Issued(validity.not_after));
        };
        self.share(name)?;
        Ok(match self.compare(&held, &spec)? {
            Condition::Right(until) => CertificateChange::Kept(until),
            Condition::Revoked(since) => CertificateChange::Revoked(since),
            Condition::Wrong(why) => {
                self.put_leaf(name, &spec, held.request.as_ref())?;
                CertificateChange::Replaced(validity.not_after, why)
            }
        })
    }

    /// Issues what is asked for. An identity that has another certificate keeps it, unless `replace`.
    pub(super) fn issue(
        &self,
        name: &IdentityName,
        request: &Request,
        signing_request: Option<&SigningRequest>,
        lifetime: Duration,
        replace: bool,
    ) -> Result<CertificateChange> {
        let validity = self.leaf_validity(lifetime)?;
        let spec = request.spec(validity);
        ensure!(
            replace || !signing_request.is_some_and(|it| self.has_another_key(name, it)),
            "{name} has a key here, and the request is for another; move tls.key away, or give --replace to remove it"
        );
        let change = match self.credentials(name)? {
            None => CertificateChange::Issued(validity.not_after),
            Some(_) if replace => CertificateChange::Replaced(validity.not_after, "as requested"),
            Some(held) => {
                let key = SigningRequest::public_key;
                let condition = self.compare(&held, &spec)?;
                if let Condition::Right(until) = condition
                    && held.request.as_ref().map(key) == signing_request.map(key)
                {
                    self.share(name)?;
                    return Ok(CertificateChange::Kept(until));
                }
                let has = match condition {
                    Condition::Revoked(_) => "has a revoked certificate",
                    Condition::Right(_) | Condition::Wrong(_) => "already has another certificate",
                };
                bail!("{name} {has}; give --replace to replace it")
            }
        };
        self.put_leaf(name, &spec, signing_request)?;
        Ok(change)
    }

    /// The trust domain of the PKI: that of the SPIFFE ID of `name`, or else of the first identity that has one.
    pub(super) fn trust_domain(&self, name: &IdentityName) -> Result<Option<TrustDomain>> {
        for name in std::iter::once(name.clone()).chain(self.identities()?) {
            let Some(Ok(leaf)) = self.credentials(&name)?.map(|held| held.leaf()) else {
                continue;
            };
            let found = leaf.names.uris.iter().find_map(|uri| {
                let id = uri.parse::<identity::SpiffeId>().ok()?;
                id.trust_domain().parse().ok()
            });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Gives an identity a new certificate with a new key and serial number, and the same names and usages. One whose
    /// key is not here keeps its key.
    pub(super) fn renew(
        &self,
        name: &IdentityName,
        lifetime: Option<Duration>,
    ) -> Result<CertificateChange> {
        let (held, old) = self.leaf(name)?;
        self.share(name)?;
        if let Some(at) = self.revocations()?.of(&old.serial) {
            return Ok(CertificateChange::Revoked(at));
        }
        let lifetime = lifetime.unwrap_or_else(|| old.validity.lifetime());
        let validity = self.leaf_validity(lifetime)?;
        let spec = LeafSpec::like(&old, validity)
            .with_context(|| format!("the certificate of {name} cannot be renewed here"))?;
        self.put_leaf(name, &spec, held.request.as_ref())?;
        let how = match held.request {
            None => "renewed",
            Some(_) => "renewed for the same key, which is not here",
        };
        Ok(CertificateChange::Replaced(validity.not_after, how))
    }

    /// When an identity's certificate is due for renewal: after two thirds of its lifetime.
    pub(super) fn due(&self, name: &IdentityName) -> Result<OffsetDateTime> {
        let validity = self.leaf(name)?.1.validity;
        Ok(validity.not_after - validity.lifetime() / 3)
    }

    /// Signs the revocation list with the next number and a new time, and gives it to every identity. It has `revoked`
    /// too, from now on unless that was revoked before.
    pub(super) fn next_list(&self, revoked: Option<&Serial>) -> Result<Revocations> {
        let mut revocations = self.revocations()?;
        if let Some(serial) = revoked
            && revocations.of(serial).is_none()
        {
            let (serial, at) = (serial.clone(), self.now);
            revocations.entries.push(Revocation { serial, at });
        }
        let next = revocations.number.checked_add(1);
        revocations.number =
            next.context("the number of the revocation list cannot be increased any further")?;
        self.publish(&revocations, Validity::starting(self.now, LIST_LIFETIME)?)?;
        Ok(revocations)
    }

    /// The credentials that an identity has, which must be there, and its certificate.
    pub(super) fn leaf(&self, name: &IdentityName) -> Result<(Credentials, Certificate)> {
        let held = self.credentials(name)?.with_context(|| {
            let tool = tool();
            format!(
                "{name} has no certificate here; `{tool} pki list` shows the identities that have one"
            )
        })?;
        let leaf = held.leaf().with_context(|| name.to_string())?;
        Ok((held, leaf))
    }

    fn put_leaf(
        &self,
        name: &IdentityName,
        spec: &LeafSpec,
        request: Option<&SigningRequest>,
    ) -> Result<()> {
        let Some(request) = request else {
            let leaf = self.authority.issue(spec)?;
            let key_pem = &leaf.key_pem;
            return self.put(name, &leaf.chain_pem, Holder::Us { key_pem });
        };
        let chain_pem = self.authority.certify(spec, request)?;
        self.put(name, &chain_pem, Holder::Them { request })
    }

    /// A leaf that outlived its issuer would end with it all the same, and earlier than it says.
    fn leaf_validity(&self, lifetime: Duration) -> Result<Validity> {
        let validity = Validity::starting(self.now, lifetime)?;
        let end = self.issuing.validity.not_after;
        ensure!(
            validity.not_after <= end,
            "the issuing CA itself is valid only until {}; give a shorter --ttl",
            timestamp(end)
        );
        Ok(validity)
    }

    fn compare(&self, held: &Credentials, spec: &LeafSpec) -> Result<Condition> {
        let Ok(leaf) = held.leaf() else {
            let why = "there was no certificate in the file that can be read";
            return Ok(Condition::Wrong(why));
        };
        if let Some(since) = self.revocations()?.of(&leaf.serial) {
            return Ok(Condition::Revoked(since));
        }
        Ok(match self.fault(held, &leaf, spec) {
            Some(why) => Condition::Wrong(why),
            None => Condition::Right(leaf.validity.not_after),
        })
    }

    /// Why a leaf has to be replaced, if it has.
    fn fault(
        &self,
        held: &Credentials,
        leaf: &Certificate,
        spec: &LeafSpec,
    ) -> Option<&'static str> {
        if !leaf.names_issuer(&self.issuing) || !leaf.is_signed_by(&self.issuing) {
            return Some("the old one was of another CA");
        }
        if !leaf.validity.contains(self.now) {
            return Some("the old one had expired");
        }
        let (key_matches, key_type) = match &held.request {
            // The holder of the key chose its type.
            Some(request) => (request.public_key() == leaf.public_key, request.key_type()),
            None => (held.key_of(leaf).is_some(), spec.key_type),
        };
        if !key_matches {
            return Some("its key was missing or that of another certificate");
        }
        if !held.key_is_private && !held.key_pem.is_empty() {
            return Some("its key could be read by others");
        }
        let wanted = LeafSpec {
            key_type,
            ..spec.clone()
        };
        let is_wanted = LeafSpec::like(leaf, spec.validity).is_ok_and(|old| old == wanted);
        (!is_wanted).then_some("its names, usage or kind of key have changed")
    }
}
