//! Verifies certificate chains. One function decides in every handshake on both sides, again for open connections when
//! trust changes, about each new snapshot of our own, and in the tools.
//!
//! There is no network access, no default root store, and no cached verdict.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{Peer, Role, SpiffeId};
use rustls::DistinguishedName;
use rustls::pki_types::{
    CertificateDer, Der, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use webpki::{
    Cert, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;
use x509_parser::prelude::FromDer;

use crate::refusal::Refusal;
use crate::text;
use crate::trust::crl::RevocationList;
use crate::trust::explain::{self, refusal};
use crate::trust::issuers::Issuers;
use crate::trust::key;
use crate::trust::lists::ListInForce;
use crate::trust::names::is_whole;
use crate::trust::parsed::{self, check_authority};
use crate::trust::revocation::{ExpiredCrls, MissingCrls, Rules, are_only_partial, lists_of};
use crate::trust::root::{MAX_CHAIN, MAX_NAMESAKES, Root};
use crate::trust::server_identity::ServerIdentity;
use crate::trust::shown::Shown;
use crate::trust::signatures::Remembering;

/// The roots and the revocation lists of one snapshot, which decide whether a chain is accepted.
#[derive(Debug, Default)]
pub struct Authorities {
    pub(crate) roots: Arc<[Root]>,
    pub(crate) lists: Vec<ListInForce>,
    pub(crate) rules: Rules,
}

impl Authorities {
    /// These roots, and no list yet.
    pub(crate) fn of(roots: Arc<[Root]>, rules: Rules) -> Self {
        Self {
            roots,
            lists: Vec::new(),
            rules,
        }
    }

    /// Verifies `chain` (leaf first) for `role` at the time `at`, and returns the peer. Connections of one certificate
    /// share what was read from it.
    ///
    /// The path must lead to a root, be valid at `at` in every certificate including the root, carry the extended key
    /// usage of the role, be revoked nowhere, and end in a leaf from which a [`Peer`] can be read. A certificate whose
    /// issuer has no revocation list here is not checked for revocation; one whose issuer has a list must pass it.
    ///
    /// # Errors
    /// The [`Refusal`] with the most specific reason that path building found.
    pub fn judge(
        &self,
        role: Role,
        chain: &[CertificateDer<'_>],
        at: SystemTime,
    ) -> Result<Arc<Peer>, Refusal> {
        let (leaf, intermediates) = chain.split_first().ok_or(Refusal::NoCertificate)?;
        if chain.len() > MAX_CHAIN {
            return Err(Refusal::ChainTooLong(chain.len()));
        }
        let leaf_der = leaf;
        let leaf = EndEntityCert::try_from(leaf)
            .map_err(|e| Refusal::Malformed(text::of_unreadable(leaf_der, &e)))?;
        few_namesakes(intermediates)?;
        key::check(leaf_der).map_err(Refusal::UnusableKey)?;
        let roots = self.roots_for(&leaf)?;
        let anchors = anchors(&roots);
        let shown = Shown::of(chain, &roots);
        let leaf = shown.leaf().ok_or(Refusal::NoCertificate)?;
        let leaf = EndEntityCert::try_from(leaf)
            .map_err(|e| Refusal::Malformed(text::of_unreadable(leaf_der, &e)))?;
        let verify = |lists: &[&RevocationList], rules: Rules, unknown| {
            let crls: Vec<_> = lists.iter().map(|list| &list.crl).collect();
            let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
                options
                    .with_depth(match unknown {
                        UnknownStatusPolicy::Allow => RevocationCheckDepth::Chain,
                        UnknownStatusPolicy::Deny => RevocationCheckDepth::EndEntity,
                    })
                    .with_status_policy(unknown)
                    .with_expiration_policy(match rules.expired_crls {
                        ExpiredCrls::Honour => ExpirationPolicy::Ignore,
                        ExpiredCrls::Refuse => ExpirationPolicy::Enforce,
                    })
                    .build()
            });
            let algorithms = Remembering::all(&shown, lists);
            let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
                algorithms.iter().map(|it| it as _).collect();
            leaf.verify_for_usage(
                &algorithms,
                &anchors,
                shown.intermediates(),
                unix_time(at),
                usage(role),
                revocation,
                Some(&|path: &VerifiedPath<'_>| check_path(path, &shown, &roots, lists, rules, at)),
            )
            .map_err(|e| {
                let refusal = refusal(role, &e);
                let refusal = explain::placed(&self.roots, chain, lists, rules, refusal);
                self.vouched_elsewhere(role, chain, at, refusal)
            })
        };
        let settled = self.lists.iter().all(ListInForce::is_settled);
        let lists: Vec<_> = if settled {
            self.lists.iter().map(ListInForce::newest).collect()
        } else {
            // Which lists count depends on the issuers, so the path is built first.
            let rules = Rules {
                missing_crls: MissingCrls::Allow,
                ..self.rules
            };
            let path = verify(&[], rules, UnknownStatusPolicy::Allow)?;
            let met = issuers_of(&path, &shown, &roots);
            let issuers = Issuers::new(&met, &[]);
            let lists = self.lists.iter();
            lists.filter_map(|list| list.on_path(&issuers)).collect()
        };
        let path = verify(&lists, self.rules, UnknownStatusPolicy::Allow)?;
        if are_only_partial(&lists_of(&lists, leaf.issuer())) {
            // A list of one distribution point is about the certificates that name it (RFC 5280 §6.3.3 (b)(2)(i)).
            // Otherwise webpki decides whether one of them covers the leaf; then its status is known.
            if !names_distribution_points(leaf_der) {
                return Err(refusal(role, &webpki::Error::UnknownRevocationStatus));
            }
            verify(&lists, self.rules, UnknownStatusPolicy::Deny)?;
        }
        if !settled {
            let met = issuers_of(&path, &shown, &roots);
            let issuers = Issuers::new(&met, &[]);
            self.lists.iter().for_each(|list| list.meet(&issuers));
        }

        let mut verified: Vec<&[u8]> = vec![leaf_der];
        let issuers: Vec<_> = path
            .intermediate_certificates()
            .map(|cert| cert.der())
            .collect();
        verified.extend(issuers.iter().map(|der| shown.original(der)));
        verified.extend(root_of(path.anchor(), &roots).map(|root| root.der.as_ref()));

        let read = || Peer::from_verified_path(role, &verified);
        let peer = parsed::peer(role, &verified, read)?;
        left(&peer, at)?;
        Ok(peer)
    }

    /// The roots that may vouch for the holder of `leaf`: those of no trust domain, and those of its own (SPIFFE
    /// Trust Domain and Bundle §4). Under roots of trust domains alone a leaf must have a SPIFFE ID.
    fn roots_for(&self, leaf: &EndEntityCert<'_>) -> Result<Vec<&Root>, Refusal> {
        let of_domains = |root: &&Root| root.vouches.trust_domain().is_some();
        if !self.roots.iter().any(|root| of_domains(&root)) {
            return Ok(self.roots.iter().collect());
        }
        let domain = trust_domain(leaf);
        let vouches = |root: &&Root| match root.vouches.trust_domain() {
            None => true,
            Some(its) => domain.as_deref() == Some(its),
        };
        let roots: Vec<_> = self.roots.iter().filter(vouches).collect();
        match domain {
            None if roots.is_empty() => Err(Refusal::NoSpiffeId),
            Some(domain) if roots.is_empty() => Err(Refusal::UnknownTrustDomain(domain)),
            None | Some(_) => Ok(roots),
        }
    }

    /// The refusal, or that of a root which may not vouch for the leaf though it signed it.
    fn vouched_elsewhere(
        &self,
        role: Role,
        chain: &[CertificateDer<'_>],
        at: SystemTime,
        refusal: Refusal,
    ) -> Refusal {
        let unknown = matches!(
            refusal.cause(),
            Refusal::UnknownIssuer | Refusal::BadSignature
        );
        let leaf = chain.first().map(EndEntityCert::try_from);
        let domain = leaf.and_then(|leaf| trust_domain(&leaf.ok()?));
        let Some(domain) = domain.filter(|_| unknown) else {
            return refusal;
        };
        let foreign = |root: &&Root| root.vouches.trust_domain().is_some_and(|its| its != domain);
        let foreign: Vec<_> = self.roots.iter().filter(foreign).collect();
        let shown = Shown::of(chain, &foreign);
        let Some(Ok(leaf)) = shown.leaf().map(EndEntityCert::try_from) else {
            return refusal;
        };
        let algorithms = Remembering::all(&shown, &[]);
        let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
            algorithms.iter().map(|it| it as _).collect();
        let anchors = anchors(&foreign);
        let path = leaf.verify_for_usage(
            &algorithms,
            &anchors,
            shown.intermediates(),
            unix_time(at),
            usage(role),
            None,
            None,
        );
        let root = path.ok().and_then(|path| root_of(path.anchor(), &foreign));
        match root.and_then(|root| root.vouches.trust_domain()) {
            Some(signer) => Refusal::ForeignRoot {
                domain,
                signer: signer.to_owned(),
            },
            None => refusal,
        }
    }

    /// Verifies that `chain` is that of the expected server.
    ///
    /// # Errors
    /// As [`Authorities::judge`], or [`Refusal::WrongServer`].
    pub fn judge_server(
        &self,
        expected: &ServerIdentity,
        chain: &[CertificateDer<'_>],
        at: SystemTime,
    ) -> Result<Arc<Peer>, Refusal> {
        let server = self.judge(Role::Server, chain, at)?;
        let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(|e| refusal(Role::Server, &e))?;
        let named = expected
            .name()
            .is_none_or(|name| leaf.verify_is_valid_for_subject_name(name).is_ok());
        let identified = expected
            .spiffe_id()
            .is_none_or(|id| server.uri_sans().len() == 1 && server.spiffe_id() == Some(id));
        if named && identified {
            return Ok(server);
        }
        let (expected, presented) = (expected.to_string(), names(&server));
        if presented.is_empty() {
            return Err(Refusal::NoAlternativeName { expected });
        }
        Err(Refusal::WrongServer {
            expected,
            presented,
        })
    }

    /// The issuers, as RFC 4514 strings, of revocation lists that were issued by no certificate here.
    pub fn unknown_list_issuers(&self) -> impl Iterator<Item = &str> {
        let lists = self.lists.iter().filter(|list| list.is_of_a_stranger());
        lists.map(|list| list.facts().issuer.as_str())
    }

    /// The subjects of the roots, by which a client may choose its certificate. Empty when there are too many to send:
    /// they are only a hint (RFC 8446 §4.2.4).
    pub(crate) fn subjects(&self) -> Vec<DistinguishedName> {
        const MAX_HINT: usize = 8 << 10;
        let size: usize = self
            .roots
            .iter()
            .map(|root| root.anchor.subject.len() + 6)
            .sum();
        if size > MAX_HINT {
            return Vec::new();
        }
        self.roots
            .iter()
            .map(|root| DistinguishedName::in_sequence(&root.anchor.subject))
            .collect()
    }
}

/// For how long the verified path of `peer` is valid from `now` on, or why it is not.
pub(crate) fn left(peer: &Peer, now: SystemTime) -> Result<Duration, Refusal> {
    if now < peer.not_before() {
        return Err(Refusal::NotYetValid {
            not_before: peer.not_before(),
        });
    }
    let left = peer.not_after().duration_since(now);
    left.map_err(|_over| Refusal::Expired {
        not_after: peer.not_after(),
    })
}

/// Further checks for each path that webpki finds; if they fail, webpki tries another path.
fn check_path(
    path: &VerifiedPath<'_>,
    shown: &Shown<'_>,
    roots: &[&Root],
    lists: &[&RevocationList],
    rules: Rules,
    at: SystemTime,
) -> Result<(), webpki::Error> {
    let leaf: &Cert<'_> = path.end_entity();
    let authorities = path.intermediate_certificates();
    let certificates: Vec<_> = std::iter::once(leaf).chain(authorities).collect();
    let mut names = certificates
        .iter()
        .flat_map(|it| [it.issuer(), it.subject()]);
    if !names.all(is_whole) {
        return Err(webpki::Error::BadDer);
    }
    let root = root_of(path.anchor(), roots);
    let subtrees = root.and_then(|root| root.subtrees.as_ref());
    shown.check(certificates.iter().map(|it| it.der()), subtrees)?;
    let time = unix_time(at);
    if let Some(root) = root {
        if at > root.not_after {
            let not_after = unix_time(root.not_after);
            return Err(webpki::Error::CertExpired { time, not_after });
        }
        if at < root.not_before {
            let not_before = unix_time(root.not_before);
            return Err(webpki::Error::CertNotValidYet { time, not_before });
        }
    }
    for authority in certificates.iter().skip(1) {
        check_authority(&authority.der())?;
    }
    if lists.is_empty() && rules.missing_crls == MissingCrls::Allow {
        return Ok(());
    }
    let certificates = certificates.iter();
    let certificates: Vec<_> = certificates
        .map(|it| (it, lists_of(lists, it.issuer())))
        .collect();
    // webpki consults one list of an issuer, and only if its scope fits; being named in any of them revokes. The
    // whole path is checked for that before any unknown status is reported.
    for (certificate, lists) in &certificates {
        for list in lists {
            if list.crl.find_serial(certificate.serial())?.is_some() {
                return Err(webpki::Error::CertRevoked);
            }
        }
    }
    for (place, (certificate, lists)) in certificates.iter().enumerate() {
        if rules.is_unknown(place, certificate.issuer(), lists) {
            return Err(webpki::Error::UnknownRevocationStatus);
        }
    }
    Ok(())
}

/// The certificates of the authorities of a path, its root last.
fn issuers_of(
    path: &VerifiedPath<'_>,
    shown: &Shown<'_>,
    roots: &[&Root],
) -> Vec<CertificateDer<'static>> {
    let intermediates = path.intermediate_certificates();
    let root = root_of(path.anchor(), roots).map(|root| root.der.clone());
    intermediates
        .map(|cert| CertificateDer::from(shown.original(&cert.der()).to_vec()))
        .chain(root)
        .collect()
}

/// The root of an anchor. Of those with one name and key, as after a renewal, the one that lasts longest.
fn root_of<'a>(anchor: &TrustAnchor<'_>, roots: &[&'a Root]) -> Option<&'a Root> {
    let same = roots.iter().filter(|root| root.anchor == *anchor);
    same.copied().max_by_key(|root| root.not_after)
}

fn anchors<'a>(roots: &[&'a Root]) -> Vec<TrustAnchor<'a>> {
    roots.iter().map(|root| borrowed(&root.anchor)).collect()
}

/// The trust domain that a leaf claims: that of its only URI name, if that is a SPIFFE ID (X509-SVID §2).
fn trust_domain(leaf: &EndEntityCert<'_>) -> Option<String> {
    let mut uris = leaf.valid_uri_names();
    let id: SpiffeId = uris.next()?.parse().ok()?;
    uris.next().is_none().then(|| id.trust_domain().to_owned())
}

fn usage(role: Role) -> KeyUsage {
    match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    }
}

/// The same anchor, borrowed.
fn borrowed<'a>(anchor: &'a TrustAnchor<'static>) -> TrustAnchor<'a> {
    TrustAnchor {
        subject: Der::from_slice(&anchor.subject),
        subject_public_key_info: Der::from_slice(&anchor.subject_public_key_info),
        name_constraints: anchor
            .name_constraints
            .as_ref()
            .map(|it| Der::from_slice(it)),
    }
}

fn names_distribution_points(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
        let extension = certificate.get_extension_unique(&OID_X509_EXT_CRL_DISTRIBUTION_POINTS);
        extension.is_ok_and(|it| it.is_some())
    })
}

fn few_namesakes(intermediates: &[CertificateDer<'_>]) -> Result<(), Refusal> {
    let subjects: Vec<_> = intermediates
        .iter()
        .filter_map(|der| EndEntityCert::try_from(der).ok())
        .map(|cert| cert.subject().to_vec())
        .collect();
    let namesakes = |subject| subjects.iter().filter(|other| *other == subject).count();
    if subjects
        .iter()
        .map(namesakes)
        .any(|count| count > MAX_NAMESAKES)
    {
        return Err(Refusal::ChainAmbiguous);
    }
    Ok(())
}

fn names(peer: &Peer) -> String {
    let ips = peer.ip_sans().iter().map(|ip| format!("IP:{ip}"));
    let emails = peer
        .email_sans()
        .iter()
        .map(|email| format!("email:{email}"));
    let names: Vec<String> = (peer.uri_sans().iter().map(|uri| format!("URI:{uri}")))
        .chain(peer.dns_sans().iter().map(|dns| format!("DNS:{dns}")))
        .chain(ips)
        .chain(emails)
        .collect();
    names.join(", ")
}

fn unix_time(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
