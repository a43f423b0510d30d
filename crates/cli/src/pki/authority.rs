//! Certificate authorities: the root, the issuing authority under it, and what they sign.

use pki_types::CertificateDer;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;

use super::{IssueError, KeyType, Leaf, LeafSpec, Serial};

/// From when until when something is valid, both included, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second at which it is valid.
    pub not_before: OffsetDateTime,
    /// The last second at which it is valid.
    pub not_after: OffsetDateTime,
}

impl Validity {
    pub(super) fn apply(self, params: &mut CertificateParams) {
        params.not_before = self.not_before;
        params.not_after = self.not_after;
    }
}

/// A certificate authority with its private key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    /// What its leaves carry along: nothing for a root, itself and so on upwards for the others.
    intermediates: Vec<CertificateDer<'static>>,
    intermediates_pem: String,
    key_identifier: KeyIdMethod,
}

impl Authority {
    /// A self-signed root.
    ///
    /// # Errors
    /// When the key cannot be made or does not sign.
    pub fn root(common_name: &str, validity: Validity) -> Result<Self, IssueError> {
        let params = params(common_name, validity, BasicConstraints::Unconstrained);
        let key = KeyType::default().generate()?;
        let certificate = params
            .self_signed(&key)
            .map_err(|source| IssueError::Sign {
                what: "the root certificate",
                source,
            })?;
        Ok(Self::new(
            params,
            key,
            &certificate,
            Vec::new(),
            String::new(),
        ))
    }

    /// An authority under this one that signs leaves and no further authority.
    ///
    /// # Errors
    /// When the key cannot be made, or this authority's does not sign.
    pub fn issuing(&self, common_name: &str, validity: Validity) -> Result<Self, IssueError> {
        let params = params(common_name, validity, BasicConstraints::Constrained(0));
        let key = KeyType::default().generate()?;
        let certificate =
            params
                .signed_by(&key, &self.issuer)
                .map_err(|source| IssueError::Sign {
                    what: "the issuing certificate",
                    source,
                })?;
        let intermediates = with_above(&certificate, &self.intermediates);
        let intermediates_pem = certificate.pem() + &self.intermediates_pem;
        Ok(Self::new(
            params,
            key,
            &certificate,
            intermediates,
            intermediates_pem,
        ))
    }

    fn new(
        params: CertificateParams,
        key: KeyPair,
        certificate: &rcgen::Certificate,
        intermediates: Vec<CertificateDer<'static>>,
        intermediates_pem: String,
    ) -> Self {
        Self {
            key_identifier: params.key_identifier_method.clone(),
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            intermediates,
            intermediates_pem,
        }
    }

    /// Makes a key and a leaf for it, with a serial number of its own.
    ///
    /// # Errors
    /// When a name cannot be encoded, the key cannot be made or ours does not sign.
    pub fn issue(&self, spec: &LeafSpec) -> Result<Leaf, IssueError> {
        let serial = Serial::random();
        let key = spec.key_type.generate()?;
        let leaf = spec
            .params(&serial)?
            .signed_by(&key, &self.issuer)
            .map_err(|source| IssueError::Sign {
                what: "the certificate",
                source,
            })?;
        let chain = with_above(&leaf, &self.intermediates);
        let chain_pem = leaf.pem() + &self.intermediates_pem;
        Ok(Leaf {
            chain,
            chain_pem,
            key_pem: key.serialize_pem(),
            serial,
        })
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
    ) -> Result<String, IssueError> {
        let revoked_certs = revoked.iter().map(Revocation::to_rcgen).collect();
        CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: self.key_identifier.clone(),
        }
        .signed_by(&self.issuer)
        .and_then(|crl| crl.pem())
        .map_err(|source| IssueError::Sign {
            what: "the revocation list",
            source,
        })
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

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

fn with_above(
    certificate: &rcgen::Certificate,
    above: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    std::iter::once(certificate.der())
        .chain(above)
        .cloned()
        .collect()
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

impl Revocation {
    fn to_rcgen(&self) -> RevokedCertParams {
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(self.serial.octets()),
            revocation_time: self.at,
            reason_code: None,
            invalidity_date: None,
        }
    }
}
