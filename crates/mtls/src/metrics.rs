//! The metrics of live credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::metrics::{self, CountBy, Families, seconds};
use identity::Role;
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::counts::TransportCounts;
use crate::text::hexadecimal;
use crate::trust::live::Trust;

/// Registers the metrics of all credentials of a process, at most one for each side.
pub fn register(trusts: Vec<Trust>, registry: &mut Registry) {
    metrics::register(registry, move |families| {
        handshakes(&trusts, families)?;
        connections(&trusts, families)?;
        expiries(&trusts, families)
    });
}

/// The credentials and their counts, with the name of their side.
fn sides(trusts: &[Trust]) -> impl Iterator<Item = (&'static str, &Trust, &TransportCounts)> {
    trusts.iter().map(|trust| {
        let side = match trust.current().role() {
            Role::Client => "client",
            Role::Server => "server",
        };
        (side, trust, &**trust.counts())
    })
}

fn handshakes(trusts: &[Trust], families: &mut Families<'_>) -> fmt::Result {
    families.counter(
        "tls_handshakes",
        "TLS handshakes by result, and by the reason of a refusal.",
        sides(trusts).flat_map(|(side, _, counts)| {
            let labels =
                move |result, reason| [("side", side), ("result", result), ("reason", reason)];
            let refused = counts.refused.samples("reason");
            let refused = refused.map(move |([(_, reason)], n)| (labels("refused", reason), n));
            [(labels("accepted", ""), counts.accepted.get())]
                .into_iter()
                .chain(refused)
        }),
    )
}

fn connections(trusts: &[Trust], families: &mut Families<'_>) -> fmt::Result {
    let by_reason = |count: fn(&TransportCounts) -> &CountBy| {
        sides(trusts).flat_map(move |(side, _, counts)| {
            let samples = count(counts).samples("reason");
            samples.map(move |([reason], n)| ([("side", side), reason], n))
        })
    };
    families.gauge(
        "tls_connections",
        "Live connections, by the root that the peer's certificate leads to.",
        sides(trusts).flat_map(|(side, _, counts)| {
            let live = counts.live().clone().into_iter();
            live.map(move |((subject, digest), count)| {
                let digest = ("root_sha256", hexadecimal(&digest));
                ([owned(("side", side)), ("root", subject), digest], count)
            })
        }),
    )?;
    families.counter(
        "tls_connections_ended",
        "Connections that ended, by reason.",
        by_reason(|counts| &counts.ended),
    )?;
    families.counter(
        "tls_connections_shed",
        "Connections of verified peers that a limit refused, by the limit.",
        by_reason(|counts| &counts.shed),
    )?;
    families.counter(
        "tls_accept_failures",
        "Sockets that could not be accepted for lack of descriptors or memory.",
        sides(trusts).map(|(side, _, counts)| ([("side", side)], counts.unaccepted.get())),
    )
}

fn expiries(trusts: &[Trust], families: &mut Families<'_>) -> fmt::Result {
    families.gauge(
        "tls_certificate_expiration_timestamp_seconds",
        "When a certificate expires: our own with its verified path, and each trusted root.",
        sides(trusts).flat_map(|(side, trust, _)| {
            let snapshot = trust.current();
            let own = match snapshot.own() {
                Ok(own) => Some((own.to_string(), own.not_after())),
                Err(_) => snapshot.leaf().and_then(subject_and_expiry),
            };
            let roots = snapshot.authorities().roots.iter();
            let roots = roots.filter_map(|root| subject_and_expiry(&root.der));
            let all = own.map(|own| ("leaf", own)).into_iter();
            let all = all.chain(roots.map(|root| ("root", root)));
            let all = all.map(|(role, (subject, at))| ((role, subject), at));
            earliest(all).into_iter().map(move |((role, subject), at)| {
                let [side, role] = [("side", side), ("role", role)].map(owned);
                ([side, role, ("subject", subject)], seconds(at))
            })
        }),
    )?;
    families.gauge(
        "tls_crl_next_update_timestamp_seconds",
        "When a newer revocation list of an issuer is due.",
        sides(trusts).flat_map(|(side, trust, _)| {
            let snapshot = trust.current();
            let crls = snapshot.crls();
            let crls = earliest(crls.map(|crl| (crl.issuer.clone(), crl.next_update)));
            crls.into_iter()
                .map(move |(issuer, at)| ([owned(("side", side)), ("issuer", issuer)], seconds(at)))
        }),
    )
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

/// One time for each name, the earliest: two roots, or two lists of an issuer, may have the same name.
fn earliest<K: Ord>(moments: impl Iterator<Item = (K, SystemTime)>) -> BTreeMap<K, SystemTime> {
    let mut earliest = BTreeMap::new();
    for (name, at) in moments {
        let first = earliest.entry(name).or_insert(at);
        *first = at.min(*first);
    }
    earliest
}

fn subject_and_expiry(der: &CertificateDer<'_>) -> Option<(String, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let after_epoch = Duration::from_secs(seconds.try_into().unwrap_or(0));
    let subject = identity::distinguished_name(certificate.subject().as_raw()).unwrap_or_default();
    Some((subject, UNIX_EPOCH + after_epoch))
}
