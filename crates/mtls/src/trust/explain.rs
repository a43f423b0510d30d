//! Converts webpki's errors into refusals, and names the certificate that a refusal is about.

use std::cell::LazyCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{InvalidPeer, Role};
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crypto;
use crate::refusal::Refusal;
use crate::text;
use crate::trust::crl::{RevocationList, system_time};
use crate::trust::der;
use crate::trust::issuers::{self, Issuers};
use crate::trust::key;
use crate::trust::names::canonical;
use crate::trust::revocation::{Rules, lists_of};
use crate::trust::root::Root;

/// Converts webpki's errors. Its error enum is non-exhaustive: all other errors mean a malformed certificate.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "webpki::Error is non_exhaustive; every other reason is a malformed certificate, with its text kept"
)]
pub(crate) fn refusal(role: Role, error: &webpki::Error) -> Refusal {
    use webpki::Error as E;
    match error {
        E::CertExpired { not_after, .. } => Refusal::Expired {
            not_after: from_unix(*not_after),
        },
        E::CertNotValidYet { not_before, .. } => Refusal::NotYetValid {
            not_before: from_unix(*not_before),
        },
        E::UnknownIssuer => Refusal::UnknownIssuer,
        E::InvalidSignatureForPublicKey => Refusal::BadSignature,
        E::CertRevoked => Refusal::Revoked,
        E::CrlExpired { next_update, .. } => Refusal::CrlExpired {
            next_update: from_unix(*next_update),
        },
        E::InvalidCrlSignatureForPublicKey => {
            Refusal::RevocationUnknown("the issuer did not sign its revocation list".to_owned())
        }
        E::IssuerNotCrlSigner => {
            Refusal::RevocationUnknown("the issuer's key usage lacks cRLSign".to_owned())
        }
        E::UnknownRevocationStatus => {
            Refusal::RevocationUnknown("no list of its issuer is about it".to_owned())
        }
        E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Refusal::RevocationUnknown(
            "the list is signed by an algorithm or a key that is not accepted".to_owned(),
        ),
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            Refusal::WrongPurpose(match role {
                Role::Client => "clientAuth",
                Role::Server => "serverAuth",
            })
        }
        E::CaUsedAsEndEntity => Refusal::InvalidPeer(InvalidPeer::LeafIsCa),
        other => Refusal::Malformed(text::of_webpki(other)),
    }
}

/// The refusal with the certificate that it is about, when that is not the leaf.
pub(crate) fn placed(
    roots: &[Root],
    chain: &[CertificateDer<'_>],
    lists: &[&RevocationList],
    rules: Rules,
    refusal: Refusal,
) -> Refusal {
    let authorities = LazyCell::new(|| Issuers::new(chain.get(1..).unwrap_or_default(), roots));
    let roots = roots.iter().map(|root| root.der.as_ref());
    let parsed: Vec<_> = chain
        .iter()
        .map(AsRef::as_ref)
        .chain(roots)
        .enumerate()
        .filter_map(|(index, der)| Some((index, X509Certificate::from_der(der).ok()?.1)))
        .collect();
    let issuers_of = |child: &X509Certificate<'_>| {
        let name = canonical(child.issuer().as_raw());
        let named =
            move |it: &&(usize, X509Certificate<'_>)| canonical(it.1.subject().as_raw()) == name;
        parsed.iter().filter(named)
    };
    let its_lists = |certificate: &X509Certificate<'_>| lists_of(lists, issuer_of(certificate));
    let unusable = |certificate: &X509Certificate<'_>| key::check_parsed(certificate).err();
    let unproven = matches!(refusal, Refusal::BadSignature | Refusal::Malformed(_));
    let issuers = parsed.iter().filter(|(index, _)| *index < chain.len());
    let unusable = issuers
        .flat_map(|(_, child)| issuers_of(child))
        .filter(|_| unproven)
        .find_map(|it| Some((it, Refusal::UnusableKey(unusable(&it.1)?))));
    if let Some(((index, certificate), refusal)) = unusable {
        return at(*index, certificate, chain.len(), refusal);
    }
    let is_it = |index: usize, certificate: &X509Certificate<'_>| match &refusal {
        Refusal::Revoked
        | Refusal::BadSignature
        | Refusal::RevocationUnknown(_)
        | Refusal::CrlExpired { .. }
            if index >= chain.len() =>
        {
            false
        }
        Refusal::Revoked => its_lists(certificate).iter().any(|list| {
            let named = list.crl.find_serial(certificate.raw_serial());
            matches!(named, Ok(Some(_)))
        }),
        Refusal::CrlExpired { next_update } => {
            let mut lists = its_lists(certificate).into_iter();
            lists.any(|list| list.facts.next_update == *next_update)
        }
        Refusal::RevocationUnknown(_) => {
            let lists = its_lists(certificate);
            let is_proven = |list: &&RevocationList| {
                let mut issuers = authorities.named(certificate.issuer().as_raw());
                issuers.any(|it| it.may_sign_lists() && list.is_signed_by(it))
            };
            rules.is_unknown(index, issuer_of(certificate), &lists) || !lists.iter().all(is_proven)
        }
        Refusal::BadSignature => {
            let signed = certificate.tbs_certificate.as_ref();
            let signature = &certificate.signature_value.data;
            issuers_of(certificate).next().is_some()
                && !issuers_of(certificate).any(|(_, issuer)| {
                    let key = &issuer.public_key().subject_public_key.data;
                    crypto::is_signed_by(key, signed, signature)
                })
        }
        Refusal::Expired { not_after } => {
            system_time(certificate.validity().not_after) == *not_after
        }
        Refusal::NotYetValid { not_before } => {
            system_time(certificate.validity().not_before) == *not_before
        }
        Refusal::WrongPurpose(purpose) => {
            let usage = certificate.extended_key_usage().ok().flatten();
            usage.map_or(index == 0, |usage| match *purpose {
                "clientAuth" => !usage.value.client_auth,
                _ => !usage.value.server_auth,
            })
        }
        Refusal::Malformed(_) => {
            index > 0
                && (issuers::check_usage(certificate).is_err()
                    || text::of_critical(certificate).is_some())
        }
        Refusal::NoCertificate
        | Refusal::ChainTooLong(_)
        | Refusal::ChainAmbiguous
        | Refusal::UnknownIssuer
        | Refusal::NoSpiffeId
        | Refusal::UnknownTrustDomain(_)
        | Refusal::ForeignRoot { .. }
        | Refusal::NoAlternativeName { .. }
        | Refusal::WrongServer { .. }
        | Refusal::InvalidPeer(_)
        | Refusal::UnusableKey(_)
        | Refusal::At { .. } => false,
    };
    let found = parsed.iter().find(|(index, it)| is_it(*index, it));
    let Some((index @ 1.., certificate)) = found else {
        return refusal;
    };
    let refusal = match (issuers::check_usage(certificate), refusal) {
        (Err(reason), Refusal::Malformed(_)) => Refusal::Malformed(reason.to_owned()),
        (Ok(()), Refusal::Malformed(reason)) => {
            Refusal::Malformed(text::of_critical(certificate).unwrap_or(reason))
        }
        (_, refusal) => refusal,
    };
    at(*index, certificate, chain.len(), refusal)
}

/// The name of its issuer without the outermost tag and length, as webpki gives names.
fn issuer_of<'a>(certificate: &'a X509Certificate<'_>) -> &'a [u8] {
    let issuer = certificate.issuer().as_raw();
    der::only(issuer).map_or(issuer, |name| name.data)
}

/// The refusal at a certificate, of which the first `presented` are those of the chain.
fn at(
    index: usize,
    certificate: &X509Certificate<'_>,
    presented: usize,
    refusal: Refusal,
) -> Refusal {
    let name = identity::distinguished_name(certificate.subject().as_raw()).unwrap_or_default();
    let place = if index < presented {
        format!("certificate {} ({name})", index + 1)
    } else {
        format!("the root {name} of ca.crt")
    };
    Refusal::At {
        place,
        refusal: Box::new(refusal),
    }
}

fn from_unix(at: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.as_secs())
}
