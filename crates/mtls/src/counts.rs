//! What became of handshakes, connections and reloads under one set of live credentials, in numbers.
//!
//! Never the name of a peer: what tells two numbers apart is a word of ours or a root that the operator configured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{Peer, Role};
use rustls::pki_types::CertificateDer;
use telemetry::{CountBy, Counter, Input, Page};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::text::hexadecimal;
use crate::trust::Trust;

/// The numbers of one [`Trust`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Handshakes that gave a peer.
    pub(crate) accepted: Counter,
    /// Handshakes, and on the client's side attempts to connect, that came to nothing.
    pub(crate) refused: CountBy,
    /// Sockets that the system could not give us.
    pub(crate) unaccepted: Counter,
    /// Connections of known peers that a limit turned away.
    pub(crate) shed: CountBy,
    /// Calls that were sent again because they were provably not processed.
    pub(crate) resent: Counter,
    /// What became of reading the credentials.
    pub(crate) input: Input,
    ended: CountBy,
    live: Mutex<BTreeMap<Root, u64>>,
}

/// A root by its subject and its SHA-256 digest: during a roll-over two may have one name.
type Root = (String, [u8; 32]);

impl Counts {
    /// Counts a connection as live until the guard goes.
    pub(crate) fn connection(self: &Arc<Self>, peer: &Peer) -> Live {
        let root = (peer.root_subject().to_owned(), *peer.root_fingerprint());
        *self.live().entry(root.clone()).or_default() += 1;
        Live {
            counts: self.clone(),
            root,
            reason: "CUT",
        }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<Root, u64>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a live connection. One that goes without a reason was cut.
#[derive(Debug)]
pub(crate) struct Live {
    counts: Arc<Counts>,
    root: Root,
    reason: &'static str,
}

impl Live {
    pub(crate) fn end(mut self, reason: &'static str) {
        self.reason = reason;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.counts.ended.add(self.reason);
        let mut live = self.counts.live();
        if let Some(count) = live.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.root);
            }
        }
    }
}

/// Writes the families of all credentials of a process, at most one for each side.
pub fn metrics(trusts: &[&Trust], page: &mut Page) {
    let sides: Vec<_> = trusts.iter().map(|trust| Side::new(trust)).collect();
    handshakes(&sides, page);
    connections(&sides, page);
    expiries(&sides, page);
}

/// What is needed of one set of credentials, under one label.
struct Side<'a> {
    name: &'static str,
    trust: &'a Trust,
    counts: &'a Counts,
}

impl<'a> Side<'a> {
    fn new(trust: &'a Trust) -> Self {
        Self {
            name: match trust.current().role() {
                Role::Client => "client",
                Role::Server => "server",
            },
            trust,
            counts: trust.counts(),
        }
    }
}

fn handshakes(sides: &[Side<'_>], page: &mut Page) {
    let mut family = page.counter(
        "tls_handshakes_total",
        "TLS handshakes by result, and by the reason of a refusal.",
    );
    for Side { name, counts, .. } in sides {
        let labels = [("side", *name), ("result", "accepted"), ("reason", "")];
        family.sample(&labels, counts.accepted.get());
        for (reason, count) in counts.refused.get() {
            let labels = [("side", *name), ("result", "refused"), ("reason", reason)];
            family.sample(&labels, count);
        }
    }
}

fn connections(sides: &[Side<'_>], page: &mut Page) {
    let mut family = page.gauge(
        "tls_connections",
        "Live connections, by the root that the peer's certificate leads to.",
    );
    for Side { name, counts, .. } in sides {
        for ((subject, digest), count) in counts.live().iter() {
            let digest = hexadecimal(digest);
            let labels = [("side", *name), ("root", subject), ("root_sha256", &digest)];
            family.sample(&labels, count);
        }
    }
    let mut family = page.counter(
        "tls_connections_ended_total",
        "Connections that ended, by reason.",
    );
    for Side { name, counts, .. } in sides {
        for (reason, count) in counts.ended.get() {
            family.sample(&[("side", *name), ("reason", reason)], count);
        }
    }
    let mut family = page.counter(
        "tls_connections_shed_total",
        "Connections of known peers that a limit turned away, by the limit.",
    );
    for Side { name, counts, .. } in sides {
        for (reason, count) in counts.shed.get() {
            family.sample(&[("side", *name), ("reason", reason)], count);
        }
    }
    let mut family = page.counter(
        "tls_accept_failures_total",
        "Sockets that the system could not give us, for want of descriptors or memory.",
    );
    for Side { name, counts, .. } in sides {
        family.sample(&[("side", *name)], counts.unaccepted.get());
    }
}

fn expiries(sides: &[Side<'_>], page: &mut Page) {
    let mut family = page.gauge(
        "tls_certificate_expiration_timestamp_seconds",
        "When a certificate expires: our own, with the path that it was verified by, and each root that we believe.",
    );
    for Side { name, trust, .. } in sides {
        let snapshot = trust.current();
        let own = match snapshot.own() {
            Ok(own) => Some((own.to_string(), own.not_after())),
            Err(_) => snapshot.leaf().and_then(subject_and_expiry),
        };
        let roots = snapshot.authorities().roots.iter();
        let roots = roots.filter_map(|root| subject_and_expiry(&root.der));
        let all = own.map(|own| ("leaf", own));
        let all = all.into_iter().chain(roots.map(|root| ("root", root)));
        for ((role, subject), at) in
            earliest(all.map(|(role, (subject, at))| ((role, subject), at)))
        {
            let labels = [("side", *name), ("role", role), ("subject", &subject)];
            family.moment(&labels, at);
        }
    }
    let mut family = page.gauge(
        "tls_crl_next_update_timestamp_seconds",
        "When a newer revocation list of an issuer is due.",
    );
    for Side { name, trust, .. } in sides {
        let snapshot = trust.current();
        let crls = snapshot.crls();
        for (issuer, at) in earliest(crls.map(|crl| (&crl.issuer, crl.next_update))) {
            family.moment(&[("side", *name), ("issuer", issuer)], at);
        }
    }
}

/// One moment for each name, since two roots, or two lists of an issuer, may have one: the one that needs attention first.
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
