//! Caches valid signatures of certificates and revocation lists.
//!
//! Whether a signature is valid depends only on the algorithm, the key, the message and the signature. Whether a
//! certificate is accepted also depends on the time, the roots, the lists and the role, and is decided each time. The
//! signature by which a peer proves possession of its key in a handshake is not cached.

use std::sync::LazyLock;

use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::crypto::{self, Digest};
use crate::trust::crl::RevocationList;
use crate::trust::memo::Memo;
use crate::trust::shown::Shown;

/// How many good signatures are remembered, at about 50 bytes each.
const MAX_SIGNATURES: usize = 4096;

static GOOD: LazyLock<Memo<()>> = LazyLock::new(|| Memo::new(MAX_SIGNATURES));

/// An algorithm that caches valid signatures.
#[derive(Debug)]
pub(crate) struct Remembering<'l> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    good: &'l Memo<()>,
    lists: &'l [&'l RevocationList],
    shown: &'l Shown<'l>,
}

impl<'l> Remembering<'l> {
    /// The algorithms that are accepted, for a verification of a chain that uses `lists` and no other ones.
    pub(crate) fn all(shown: &'l Shown<'l>, lists: &'l [&'l RevocationList]) -> Vec<Self> {
        let all = crypto::signature_algorithms().all.iter();
        all.map(|algorithm| Self {
            algorithm: *algorithm,
            good: &GOOD,
            lists,
            shown,
        })
        .collect()
    }

    /// SHA-256 of a message. That of a large list was computed when it was read.
    fn digest(&self, message: &[u8]) -> Digest {
        if let Some(list) = self.lists.iter().find(|list| list.holds(message)) {
            return list.signed_digest;
        }
        let digest = crypto::digest([message]);
        let mut as_long = self.lists.iter().filter(|list| list.is_as_long_as(message));
        if let (Some(list), None) = (as_long.next(), as_long.next()) {
            list.found_at(message, &digest);
        }
        digest
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let message = self.shown.signed(message);
        let key = crypto::digest([
            self.public_key_alg_id().as_ref(),
            self.signature_alg_id().as_ref(),
            public_key,
            &self.digest(message),
            signature,
        ]);
        if self.good.get(&key).is_some() {
            return Ok(());
        }
        self.algorithm
            .verify_signature(public_key, message, signature)?;
        self.good.put(key, ());
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    };
    use rustls::pki_types::alg_id;
    use x509_parser::prelude::FromDer;
    use x509_parser::revocation_list::CertificateRevocationList;

    use super::*;

    /// Accepts a signature that equals the message, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Counting {
        asked: AtomicUsize,
        other: bool,
    }

    impl Counting {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            _: &[u8],
            message: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            (message == signature).then_some(()).ok_or(InvalidSignature)
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            match self.other {
                false => alg_id::ECDSA_SHA256,
                true => alg_id::ECDSA_SHA384,
            }
        }
    }

    fn counting(other: bool) -> &'static Counting {
        Box::leak(Box::new(Counting {
            other,
            ..Counting::default()
        }))
    }

    #[test]
    fn a_good_signature_is_checked_once_and_a_bad_one_each_time() {
        let shown = Shown::default();
        let (algorithm, other, good) = (counting(false), counting(true), Memo::new(100));
        let with = |algorithm| Remembering {
            algorithm,
            good: &good,
            lists: &[],
            shown: &shown,
        };
        let remembering = with(algorithm);
        for _ in 0..3 {
            assert!(remembering.verify_signature(b"k", b"m", b"m").is_ok());
        }
        assert_eq!(algorithm.asked(), 1);
        for n in 2..5 {
            assert!(remembering.verify_signature(b"k", b"m", b"x").is_err());
            assert_eq!(algorithm.asked(), n);
        }
        // Any difference is another entry, even if the concatenated parts are equal.
        for (key, message, signature) in [(b"K", "m", "m"), (b"k", "n", "n"), (b"k", "mm", "mm")] {
            let before = algorithm.asked();
            let found = remembering.verify_signature(key, message.as_bytes(), signature.as_bytes());
            assert!(found.is_ok());
            assert_eq!(algorithm.asked(), before + 1, "{key:?} {message}");
        }
        assert!(remembering.verify_signature(b"km", b"", b"m").is_err());
        assert!(with(other).verify_signature(b"k", b"m", b"m").is_ok());
        assert_eq!(other.asked(), 1, "another algorithm is another question");
    }

    #[test]
    fn ten_thousand_certificates_take_no_more_place_than_the_bound() {
        let shown = Shown::default();
        let (algorithm, good) = (counting(false), Memo::new(MAX_SIGNATURES));
        let remembering = Remembering {
            algorithm,
            good: &good,
            lists: &[],
            shown: &shown,
        };
        for n in 0..10_000_u32 {
            let message = n.to_be_bytes();
            let found = remembering.verify_signature(b"k", &message, &message);
            assert!(found.is_ok());
            assert!(good.len() <= MAX_SIGNATURES, "{} after {n}", good.len());
        }
        assert_eq!(algorithm.asked(), 10_000);
    }

    /// A list of `revoked` certificates, and what is signed of it.
    fn list(revoked: u64) -> (RevocationList, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let issuer = Issuer::new(params, KeyPair::generate().unwrap());
        let now = time::OffsetDateTime::now_utc();
        let der = CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::DAY,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: (0..revoked)
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(1_000_000 + serial),
                    revocation_time: now,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = der.signed_by(&issuer).unwrap();
        let (_, parsed) = CertificateRevocationList::from_der(der.der()).unwrap();
        let signed = parsed.tbs_cert_list.as_ref().to_vec();
        (RevocationList::read(der.der()).unwrap(), signed)
    }

    #[test]
    fn a_long_list_is_known_by_its_place_and_by_nothing_else() {
        let ((long, signed), (short, few)) = (list(4000), list(1));
        let algorithm = counting(false);
        let good = Memo::new(10);
        let shown = Shown::default();
        let check = |lists: &[&RevocationList], message: &[u8]| {
            let it = Remembering {
                algorithm,
                good: &good,
                lists,
                shown: &shown,
            };
            it.verify_signature(b"k", message, b"").ok();
        };
        let (copy, mut forged) = (signed.clone(), signed.clone());
        forged[100] ^= 1;
        check(&[&long, &long], &signed);
        assert!(!long.holds(&signed), "two lists could be meant");
        check(&[&long], &forged);
        assert!(!long.holds(&forged), "it is not the list's");
        check(&[&long, &short], &signed);
        assert!(long.holds(&signed));
        assert!(!long.holds(&copy), "the same bytes, and another place");
        check(&[&long], &copy);
        assert!(long.holds(&signed) && !long.holds(&copy));
        check(&[&short], &few);
        assert!(!short.holds(&few), "a peer could present as much");
    }
}
