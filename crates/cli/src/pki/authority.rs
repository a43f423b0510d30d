//! Certificate authorities: the root, the issuing authority under it, and what they sign.

use anyhow::{Context as _, Result, bail, ensure};
use pki_types::CertificateDer;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SerialNumber, SigningKey as _, SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};
use x509_parser::asn1_rs::Tag;

use super::certificate::Certificate;
use super::encoding::{self, first_certificate, key_pair, to_pem};
use super::{KeyType, Leaf, LeafSpec, Serial, SigningRequest, Subject};

/// From when until when something is valid, both included, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second at which it is valid.
    pub not_before: OffsetDateTime,
    /// The last second at which it is valid.
    pub not_after: OffsetDateTime,
}

/// How much earlier than now things become valid, for verifiers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::minutes(5);

impl Validity {
    /// From now, and a little earlier for clocks that are behind, for `lifetime`.
    ///
    /// # Errors
    /// When it would be no time at all, or end after the year 9999.
    pub fn starting(now: OffsetDateTime, lifetime: std::time::Duration) -> Result<Self> {
        let starting = || {
            let now = now.replace_nanosecond(0).ok()?;
            let lifetime = Duration::try_from(lifetime).ok()?;
            (lifetime >= Duration::SECOND).then_some(Self {
                not_before: now.checked_sub(CLOCK_SKEW)?,
                not_after: now.checked_add(lifetime)?,
            })
        };
        starting().context("a lifetime is a second at least, and ends before the year 10000")
    }

    /// Whether `now` is within.
    pub fn contains(self, now: OffsetDateTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// How long it lasts beyond the moment at which it started for a clock that is right.
    pub fn lifetime(self) -> std::time::Duration {
        let lifetime = self.not_after - self.not_before - CLOCK_SKEW;
        std::time::Duration::try_from(lifetime).unwrap_or_default()
    }

    pub(super) fn apply(self, params: &mut CertificateParams) {
        params.not_before = self.not_before;
        params.not_after = self.not_after;
    }
}

/// A certificate authority with its private key, which its `Debug` leaves out.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    /// What its leaves carry along: nothing for a root, itself and so on upwards for the others.
    intermediates: Vec<CertificateDer<'static>>,
    key_identifier: KeyIdMethod,
}

impl Authority {
    /// A self-signed root.
    ///
    /// # Errors
    /// The key cannot be made or does not sign.
    pub fn root(common_name: &str, validity: Validity) -> Result<Self> {
        let params = params(common_name, validity, BasicConstraints::Unconstrained);
        let key = KeyType::default().generate()?;
        let certificate = params.self_signed(&key);
        let certificate = certificate.context("cannot sign the root certificate")?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// An authority under this one that signs leaves and no further authority.
    ///
    /// # Errors
    /// The key cannot be made, or this authority's does not sign.
    pub fn issuing(&self, common_name: &str, validity: Validity) -> Result<Self> {
        let params = params(common_name, validity, BasicConstraints::Constrained(0));
        let key = KeyType::default().generate()?;
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.context("cannot sign the issuing certificate")?;
        let made = Self::from_pem(&certificate.pem(), &key.serialize_pem())?;
        let intermediates = self.below(made.certificate.clone());
        Ok(Self {
            intermediates,
            ..made
        })
    }

    /// The authority of these files: its certificate, and its key as PKCS#8, SEC1 or PKCS#1.
    ///
    /// # Errors
    /// One of them cannot be read, they are not a pair, or the certificate is not that of an authority.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self> {
        let der = first_certificate("the certificate", certificate_pem)?;
        let key = key_pair("the private key", key_pem)?;
        let certificate = Certificate::from_der(&der)?;
        ensure!(
            certificate.is_authority,
            "the certificate is not a CA certificate: CA:TRUE and keyCertSign are missing"
        );
        ensure!(
            certificate.public_key == key.subject_public_key_info(),
            "the private key is not that of the certificate"
        );
        // It would not be copied exactly into what the authority issues.
        ensure!(
            certificate.subject_is_plain(),
            "its subject {} has a type twice or joins several by '+', which this tool cannot write as the issuer of a \
             certificate: use an authority whose subject has each type once, such as CN=Issuing,O=Acme,C=US",
            certificate.subject().unwrap_or_default()
        );
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .context("the certificate of the CA is not supported")?;
        let intermediates = match certificate.is_self_issued() {
            true => Vec::new(),
            false => vec![der.clone()],
        };
        Ok(Self {
            issuer,
            intermediates,
            certificate: der,
            certificate_pem: certificate_pem.to_owned(),
            key_identifier: certificate
                .subject_key_identifier
                .map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
        })
    }

    /// The chain of a certificate that this authority signed.
    fn below(&self, certificate: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        let above = self.intermediates.iter().cloned();
        std::iter::once(certificate).chain(above).collect()
    }

    /// Makes a key and a leaf for it, with a serial number of its own.
    ///
    /// # Errors
    /// When a name cannot be encoded, the key cannot be made or ours does not sign.
    pub fn issue(&self, spec: &LeafSpec) -> Result<Leaf> {
        let serial = Serial::random();
        let key = spec.key_type.generate()?;
        let leaf = self.sign(spec, &serial, &key)?;
        let chain = self.below(leaf);
        Ok(Leaf {
            chain_pem: chain_to_pem(&chain),
            chain,
            key_pem: key.serialize_pem(),
            serial,
        })
    }

    /// A leaf for a key that is held elsewhere, with a serial number of its own: its chain as PEM.
    ///
    /// # Errors
    /// When a name or the key cannot be encoded, or our key does not sign.
    pub fn certify(&self, spec: &LeafSpec, request: &SigningRequest) -> Result<String> {
        let key = SubjectPublicKeyInfo::from_der(request.public_key()).context(CANNOT_SIGN)?;
        let leaf = self.sign(spec, &Serial::random(), &key)?;
        Ok(chain_to_pem(&self.below(leaf)))
    }

    fn sign(
        &self,
        spec: &LeafSpec,
        serial: &Serial,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>> {
        let made = spec.params(serial)?.signed_by(key, &self.issuer);
        let made = made.context(CANNOT_SIGN)?;
        match &spec.subject {
            None => Ok(made.der().clone()),
            Some(subject) => for_subject(made.der(), subject, self.issuer.key()),
        }
    }

    /// A revocation list as PEM: version 2, with its number and the authority key identifier (RFC 5280 §5.2).
    ///
    /// # Errors
    /// When `next_update` is not after `this_update`, or the key does not sign.
    pub fn crl(
        &self,
        number: u64,
        revoked: &[Revocation],
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> Result<String> {
        let revoked = revoked
            .iter()
            .map(|Revocation { serial, at }| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.octets()),
                revocation_time: *at,
                reason_code: None,
                invalidity_date: None,
            });
        CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: self.key_identifier.clone(),
        }
        .signed_by(&self.issuer)
        .and_then(|crl| crl.pem())
        .context("cannot sign the revocation list")
    }

    /// The certificate of this authority.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate of this authority as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key of this authority: PKCS#8 as PEM, not encrypted.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

fn chain_to_pem(chain: &[CertificateDer<'_>]) -> String {
    let sections = chain.iter().map(|der| to_pem("CERTIFICATE", der.as_ref()));
    sections.collect()
}

const CANNOT_SIGN: &str = "cannot sign the certificate";

/// A certificate with its subject in place of the one that it has, signed again: the encoder knows of no name that has
/// an attribute type twice, or that joins attributes into one part.
fn for_subject(
    certificate: &[u8],
    subject: &Subject,
    signer: &KeyPair,
) -> Result<CertificateDer<'static>> {
    let parts = encoding::elements(certificate).context(CANNOT_SIGN)?;
    let [signed, algorithm, _signature] = parts[..] else {
        bail!(CANNOT_SIGN);
    };
    // Version, serial number, algorithm, issuer, validity, subject (RFC 5280 §4.1).
    let mut fields = encoding::elements(signed).context(CANNOT_SIGN)?;
    *fields.get_mut(5).context(CANNOT_SIGN)? = subject.der();
    let signed = encoding::element(Tag::Sequence, &fields)?;
    let signature = signer.sign(&signed).context(CANNOT_SIGN)?;
    let signature = encoding::element(Tag::BitString, &[&[0], &*signature])?;
    let whole = encoding::element(Tag::Sequence, &[&signed, algorithm, &signature])?;
    Ok(CertificateDer::from(whole))
}

/// The profile of an authority: RFC 5280 §4.2.1.1 to §4.2.1.3 and §4.2.1.9.
fn params(common_name: &str, validity: Validity, path: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    validity.apply(&mut params);
    params.serial_number = Some(SerialNumber::from_slice(Serial::random().octets()));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(path);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// That a certificate is no longer to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its serial number.
    pub serial: Serial,
    /// Since when.
    pub at: OffsetDateTime,
}
