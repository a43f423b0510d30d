//! Limits the rate of log lines: lines about a peer for each peer, other warnings for each place in the code. So an
//! attack does not fill the disk, and does not hide the refusals of other peers.
//!
//! Errors are not limited. Lines left out are reported as a count.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::quota::{LeftOut, Quota, Quotas};
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// How many warnings one place in the code writes in a second.
const PER_SECOND: u32 = 10;

/// Lines that were not written, in this process.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Lines of one kind about one peer.
const PER_PEER: Quota = Quota {
    burst: 50,
    refill: Duration::from_secs(1),
    parties: 4096,
};

/// Lines of one kind about all addresses together: an attacker can have many addresses.
const ALL_ADDRESSES: Quota = Quota {
    burst: 500,
    refill: Duration::from_millis(20),
    parties: 256,
};

/// The peer that a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A verified identity.
    Identity(String),
    /// The address of an unauthenticated peer.
    Address(IpAddr),
}

impl Who {
    /// The address that identifies one party: IPv4, or the /64 that a network assigns to one host (RFC 6177 §2).
    pub(crate) fn at(address: &str) -> Option<Self> {
        let ip = match address.parse::<SocketAddr>() {
            Ok(address) => address.ip(),
            Err(_no_port) => address.parse().ok()?,
        };
        Some(Self::Address(match ip.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        }))
    }
}

/// Lines of one kind about one peer: what they say, the code in them, and the peer they are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LineKind {
    pub(crate) who: Who,
    pub(crate) message: String,
    pub(crate) code: Option<String>,
}

/// Counts the lines about each peer, and the warnings of each place in the code in the current second.
#[derive(Debug)]
pub(crate) struct Limiter {
    places: Mutex<HashMap<Identifier, Repeats>>,
    peers: Mutex<PeerQuotas>,
}

#[derive(Debug)]
struct PeerQuotas {
    each: Quotas<LineKind, ()>,
    addresses: Quotas<String, ()>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            places: Mutex::default(),
            peers: Mutex::new(PeerQuotas {
                each: Quotas::new(PER_PEER),
                addresses: Quotas::new(ALL_ADDRESSES),
            }),
        }
    }
}

#[derive(Debug)]
struct Repeats {
    second: Instant,
    lines: u32,
    suppressed: u64,
}

impl Limiter {
    /// How many lines of this kind were suppressed since the last one, or `None` if this one is to be suppressed.
    pub(crate) fn admit_peer(&self, kind: &LineKind, now: Instant) -> Option<u64> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = peers.each.admit(kind, (), now);
        let admitted = match (&kind.who, admitted) {
            (Who::Address(_), Some(((), left_out))) => {
                match peers.addresses.admit(&kind.message, (), now) {
                    Some(((), of_others)) => Some(left_out + of_others),
                    None => {
                        peers.addresses.count(&kind.message, left_out);
                        None
                    }
                }
            }
            (Who::Identity(_), Some(((), left_out))) => Some(left_out),
            (_, None) => None,
        };
        if admitted.is_none() {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// The due reports of suppressed lines: of each kind, of all addresses together, and of further peers.
    pub(crate) fn left_out(&self, all: bool, now: Instant) -> (LeftOut<LineKind, ()>, u64) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let each = peers.each.left_out(all, now);
        let addresses = peers.addresses.left_out(all, now);
        let together: u64 = addresses.parties.iter().map(|(_, (), count)| count).sum();
        (each, together + addresses.others)
    }

    /// How many warnings of this place were suppressed since its last one, or `None` if this one is to be suppressed.
    /// Only warnings are limited.
    pub(crate) fn admit(&self, place: &Metadata<'_>) -> Option<u64> {
        if *place.level() != Level::WARN {
            return Some(0);
        }
        self.at(place.callsite(), Instant::now())
    }

    fn at(&self, place: Identifier, now: Instant) -> Option<u64> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let said = places.entry(place).or_insert(Repeats {
            second: now,
            lines: 0,
            suppressed: 0,
        });
        if now.duration_since(said.second) >= Duration::from_secs(1) {
            (said.second, said.lines) = (now, 0);
        }
        if said.lines >= PER_SECOND {
            said.suppressed += 1;
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite;

    use super::*;

    struct CallSite;

    impl callsite::Callsite for CallSite {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("the limiter asks for nothing but the identity")
        }
    }

    static CALL_SITE: CallSite = CallSite;

    fn refused(who: Who) -> LineKind {
        LineKind {
            who,
            message: "connection refused".to_owned(),
            code: Some("NOT_TLS".to_owned()),
        }
    }

    #[test]
    fn one_address_hides_no_other_and_many_are_bounded_together() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let at = |address: &str| refused(Who::at(address).unwrap());
        let loud = (0..1_000).filter(|port| {
            let kind = at(&format!("[2001:db8::{port}]:{port}"));
            limiter.admit_peer(&kind, now).is_some()
        });
        assert_eq!(loud.count(), 50);
        assert_eq!(limiter.admit_peer(&at("127.0.0.2:1"), now), Some(0));
        let orders = refused(Who::Identity("orders".to_owned()));
        assert_eq!(limiter.admit_peer(&orders, now), Some(0));
        let many = (0..10_000u32).filter(|n| {
            let kind = at(&format!("10.{}.{}.1:1", n / 250, n % 250));
            limiter.admit_peer(&kind, now).is_some()
        });
        assert_eq!(many.count(), 449);
        assert_eq!(limiter.admit_peer(&orders, now), Some(0));
        let (each, together) = limiter.left_out(true, now);
        assert_eq!(each.parties.len(), 1);
        assert_eq!(each.parties[0].2, 950);
        assert_eq!(together, 10_000 - 449);
    }

    #[test]
    fn every_line_about_an_address_is_written_or_counted() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let (mut lines, mut written) = (0, 0);
        let mut say = |n: u32, times: u64, now: Instant| {
            let kind = refused(Who::at(&format!("10.0.0.{n}:1")).unwrap());
            lines += times;
            for _ in 0..times {
                let admitted = limiter.admit_peer(&kind, now);
                written += admitted.map_or(0, |left_out| left_out + 1);
            }
        };
        // Ten addresses take what all have together, and one of them has many lines left out.
        for n in 0..10 {
            say(n, 50, now);
        }
        say(0, 1_000, now);
        // A second later it might say one, but others have taken what there was.
        let later = now + Duration::from_secs(1);
        for n in 100..150 {
            say(n, 1, later);
        }
        say(0, 1, later);
        let (each, together) = limiter.left_out(true, later);
        let counted: u64 = each.parties.iter().map(|(_, (), count)| count).sum();
        assert_eq!(lines, written + counted + each.others + together);
    }

    #[test]
    fn the_lines_about_a_peer_are_bounded_and_those_left_out_are_counted() {
        let said = |who: &Who, message: &str, code: &str| LineKind {
            who: who.clone(),
            message: message.to_owned(),
            code: Some(code.to_owned()),
        };
        let identity = |name: &str| Who::Identity(name.to_owned());
        let at = |address: &str| Who::at(address).unwrap();
        let (orders, here) = (identity("orders"), at("10.0.0.1:1"));
        for (what, kinds, bounded) in [
            ("an identity", vec![said(&orders, "refused", "A")], 1),
            (
                "two kinds of lines",
                vec![
                    said(&orders, "refused", "A"),
                    said(&orders, "finished", "A"),
                ],
                2,
            ),
            (
                "two codes",
                vec![said(&orders, "refused", "A"), said(&orders, "refused", "B")],
                2,
            ),
            (
                "two identities",
                vec![
                    said(&orders, "refused", "A"),
                    said(&identity("b"), "refused", "A"),
                ],
                2,
            ),
            ("an address", vec![said(&here, "refused", "A")], 1),
            (
                "its ports",
                vec![
                    said(&here, "refused", "A"),
                    said(&at("10.0.0.1:2"), "refused", "A"),
                ],
                1,
            ),
            (
                "the same as IPv6",
                vec![
                    said(&here, "refused", "A"),
                    said(&at("[::ffff:10.0.0.1]:1"), "refused", "A"),
                ],
                1,
            ),
            (
                "one network of IPv6",
                vec![
                    said(&at("[2001:db8::1]:1"), "refused", "A"),
                    said(&at("[2001:db8::2:2:2]:1"), "refused", "A"),
                ],
                1,
            ),
            (
                "two networks of IPv6",
                vec![
                    said(&at("[2001:db8::1]:1"), "refused", "A"),
                    said(&at("[2001:db8:0:1::1]:1"), "refused", "A"),
                ],
                2,
            ),
            (
                "an identity of that name",
                vec![
                    said(&here, "refused", "A"),
                    said(&identity("10.0.0.1"), "refused", "A"),
                ],
                2,
            ),
        ] {
            let (limiter, now) = (Limiter::default(), Instant::now());
            let admitted = (0..200).flat_map(|_| &kinds);
            let admitted = admitted.filter(|kind| limiter.admit_peer(kind, now).is_some());
            let admitted = u64::try_from(admitted.count()).unwrap();
            assert_eq!(admitted, 50 * bounded, "{what}");
            let (each, together) = limiter.left_out(true, now);
            let left_out: u64 = each.parties.iter().map(|(_, (), count)| count).sum();
            let lines = 200 * u64::try_from(kinds.len()).unwrap();
            assert_eq!(
                admitted + left_out + together + each.others,
                lines,
                "{what}"
            );
        }
    }

    #[test]
    fn a_place_that_says_too_much_is_quiet_for_a_second_and_then_says_how_much_it_kept() {
        let limiter = Limiter::default();
        // Made once, as that of a real place: it is hashed with its vtable.
        let place = Identifier(&CALL_SITE);
        let begin = Instant::now();
        let admitted = (0..100)
            .filter(|_| limiter.at(place.clone(), begin).is_some())
            .count();
        assert_eq!(admitted, 10);
        let later = begin + Duration::from_secs(1);
        assert_eq!(limiter.at(place.clone(), later), Some(90));
        assert_eq!(limiter.at(place, later), Some(0));
    }
}
