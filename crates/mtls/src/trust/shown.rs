//! The certificates of a chain as webpki is shown them.
//!
//! webpki refuses three forms that RFC 5280 allows. It is shown a certificate of such a form with a small change:
//! - constraints about directory names (§4.2.1.10): under another tag, as `name_constraints` says;
//! - an issuer whose name has another encoding in its own certificate (§7.1): in the encoding of that certificate;
//! - a validity that starts before 1970 (§4.1.2.5.1): with a start in 1972.
//!
//! Signatures are checked over what was signed, and nothing but webpki reads what is shown.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::trust::der::{encodings, only, sequence};
use crate::trust::name_constraints::{self, Subtrees};
use crate::trust::names::{self, canonical};
use crate::trust::root::Root;

/// The places of fields in what is signed of a certificate of version 3 (RFC 5280 §4.1).
const ISSUER: usize = 3;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;

/// A chain as webpki is shown it, and what was changed of it.
#[derive(Debug, Default)]
pub(crate) struct Shown<'c> {
    /// The leaf first.
    chain: Vec<CertificateDer<'c>>,
    changed: Vec<Changed<'c>>,
}

/// A certificate that webpki is not shown as it is.
#[derive(Debug)]
struct Changed<'c> {
    original: &'c [u8],
    /// What was signed of it.
    signed: &'c [u8],
    shown: Vec<u8>,
    /// What webpki takes for that.
    taken: Vec<u8>,
    subtrees: Option<Subtrees>,
}

impl<'c> Shown<'c> {
    /// The chain (leaf first), which is to lead to one of `roots`.
    pub(crate) fn of(chain: &'c [CertificateDer<'_>], roots: &[&Root]) -> Self {
        let issuers = chain.iter().skip(1);
        let subjects: Vec<&[u8]> = issuers
            .filter_map(|der| Some(only(fields(der)?.1.get(SUBJECT)?)?.data))
            .chain(roots.iter().map(|root| root.anchor.subject.as_ref()))
            .collect();
        let mut shown = Self::default();
        for (place, der) in chain.iter().enumerate() {
            let changed = Changed::of(der, place > 0, &subjects);
            shown.chain.push(match &changed {
                Some(changed) => CertificateDer::from(changed.shown.clone()),
                None => CertificateDer::from(der.as_ref()),
            });
            shown.changed.extend(changed);
        }
        shown
    }

    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'c>> {
        self.chain.first()
    }

    pub(crate) fn intermediates(&self) -> &[CertificateDer<'c>] {
        self.chain.get(1..).unwrap_or_default()
    }

    /// What was signed, of what webpki takes for that.
    pub(crate) fn signed<'m>(&'m self, message: &'m [u8]) -> &'m [u8] {
        self.of_signed(message).map_or(message, |it| it.signed)
    }

    /// The certificate as it was presented.
    pub(crate) fn original<'m>(&'m self, der: &'m [u8]) -> &'m [u8] {
        let found = self.changed.iter().find(|it| it.shown == der);
        found.map_or(der, |it| it.original)
    }

    /// Whether all names on a path (leaf first, as it was shown, without its root) conform to its authorities.
    ///
    /// By what was signed, and not by the certificate: the constraints of a signature are those of the bytes it is over,
    /// whoever else presents what we show.
    pub(crate) fn check<'p>(
        &self,
        path: impl Iterator<Item = CertificateDer<'p>>,
        root: Option<&Subtrees>,
    ) -> Result<(), webpki::Error> {
        if root.is_none() && self.changed.iter().all(|it| it.subtrees.is_none()) {
            return Ok(());
        }
        let path: Vec<_> = path.collect();
        let mut below = Vec::with_capacity(path.len());
        for (place, der) in path.iter().enumerate() {
            let (_, certificate) =
                X509Certificate::from_der(der).map_err(|_unreadable| webpki::Error::BadDer)?;
            let changed = self.of_signed(certificate.tbs_certificate.as_ref());
            if let Some(subtrees) = changed.and_then(|it| it.subtrees.as_ref()) {
                subtrees.check(&below)?;
            }
            // RFC 5280 §6.1.3 (b): what an authority issues to itself is no name that it gives.
            let to_itself = canonical(certificate.subject().as_raw())
                == canonical(certificate.issuer().as_raw());
            if place == 0 || !to_itself {
                below.push(certificate);
            }
        }
        root.map_or(Ok(()), |subtrees| subtrees.check(&below))
    }

    fn of_signed(&self, message: &[u8]) -> Option<&Changed<'c>> {
        self.changed.iter().find(|it| it.taken == message)
    }
}

impl<'c> Changed<'c> {
    /// The certificate, if it must be changed. One that cannot be read is left to webpki.
    fn of(der: &'c [u8], is_authority: bool, subjects: &[&[u8]]) -> Option<Self> {
        let (signed, mut fields) = fields(der)?;
        let retagged = is_authority.then(|| name_constraints::retagged(der));
        let (retagged, subtrees) = retagged.flatten().unzip();
        let issuer = respelt(fields.get(ISSUER)?, subjects);
        let validity = since_1972(fields.get(VALIDITY)?);
        if subtrees.is_none() && issuer.is_none() && validity.is_none() {
            return None;
        }
        let retagged: Vec<u8> = retagged.unwrap_or_default();
        if subtrees.is_some() {
            fields = self::fields(&retagged)?.1;
        }
        for (place, field) in [(ISSUER, &issuer), (VALIDITY, &validity)] {
            if let Some(changed) = field {
                *fields.get_mut(place)? = changed;
            }
        }
        // Otherwise webpki would read what it is shown, and not what was presented.
        EndEntityCert::try_from(&CertificateDer::from(der)).ok()?;
        let taken = sequence(&fields.concat())?;
        let signature = only(der)?.data.get(signed.len()..)?;
        Some(Self {
            original: der,
            signed,
            shown: sequence(&[&taken, signature].concat())?,
            taken,
            subtrees,
        })
    }
}

/// What is signed of a certificate, and its fields.
fn fields(der: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let signed = *encodings(only(der)?.data)?.first()?;
    Some((signed, encodings(only(signed)?.data)?))
}

/// The name as its bearer encodes it, if no bearer encodes it like this.
fn respelt(name: &[u8], subjects: &[&[u8]]) -> Option<Vec<u8>> {
    let name = only(name)?.data;
    if subjects.contains(&name) || !names::is_whole(name) {
        return None;
    }
    let form = canonical(name);
    let mut subjects = subjects.iter();
    let subject = subjects.find(|subject| canonical(subject) == form)?;
    sequence(subject)
}

/// A validity that starts before 1970, with a start in 1972: later, long past, and a leap year.
fn since_1972(validity: &[u8]) -> Option<Vec<u8>> {
    const UTC_TIME: u8 = 0x17;
    let times = encodings(only(validity)?.data)?;
    let [UTC_TIME, length, b'5' | b'6', b'0'..=b'9', rest @ ..] = *times.first()? else {
        return None;
    };
    let start = [&[UTC_TIME, *length, b'7', b'2'], rest].concat();
    sequence(&[&start, *times.get(1)?].concat())
}
