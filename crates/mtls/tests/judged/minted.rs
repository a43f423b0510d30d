//! Authorities, certificates and revocation lists, and what a chain is worth under them.

use std::time::{Duration, SystemTime};

use countersign_mtls::{Authorities, ExpiredCrls, PemFile};
use identity::Role;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    SigningKey,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn authority(name: &str, lasts: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - DAY;
    params.not_after = OffsetDateTime::now_utc() + lasts;
    params
}

pub(crate) fn leaf(serial: u64, points: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial));
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://acme.test/orders".try_into().unwrap(),
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::now_utc() - DAY;
    params.not_after = OffsetDateTime::now_utc() + 10 * DAY;
    params.crl_distribution_points = points
        .iter()
        .map(|uri| CrlDistributionPoint {
            uris: vec![(*uri).to_owned()],
        })
        .collect();
    params
}

pub(crate) fn list(
    issuer: &Issuer<'_, impl SigningKey>,
    revoked: &[u64],
    point: Option<&str>,
) -> PemFile {
    PemFile::new("crl.pem", pem_list(issuer, revoked, point).into_bytes())
}

pub(crate) fn pem_list(
    issuer: &Issuer<'_, impl SigningKey>,
    revoked: &[u64],
    point: Option<&str>,
) -> String {
    let now = OffsetDateTime::now_utc();
    let params = CertificateRevocationListParams {
        this_update: now - DAY,
        next_update: now + DAY,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: point.map(|uri| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec![uri.to_owned()],
            },
            scope: None,
        }),
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: now - DAY,
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

pub(crate) fn verdict(
    roots: &str,
    lists: &[PemFile],
    chain: &[CertificateDer<'_>],
) -> &'static str {
    let roots = PemFile::new("ca.crt", roots.as_bytes().to_vec());
    let authorities =
        Authorities::of_files(&[roots], lists, chain, ExpiredCrls::default()).unwrap();
    match authorities.judge(Role::Client, chain, SystemTime::now()) {
        Ok(_) => "accepted",
        Err(refusal) => refusal.code(),
    }
}

/// A root, as PEM and as an issuer.
pub(crate) fn root(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let root = authority(name, 20 * DAY);
    let pem = root.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(root, key))
}

/// An authority under another, as a certificate and as an issuer.
pub(crate) fn intermediate(
    params: CertificateParams,
    by: &Issuer<'_, KeyPair>,
) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    (certificate.der().clone(), Issuer::new(params, key))
}

/// A certificate for a new key.
pub(crate) fn issued(
    params: &CertificateParams,
    by: &Issuer<'_, KeyPair>,
) -> CertificateDer<'static> {
    let certificate = params.signed_by(&KeyPair::generate().unwrap(), by);
    certificate.unwrap().der().clone()
}

/// The same authority under a common name of another spelling.
pub(crate) fn respelt(issuer: &Issuer<'_, KeyPair>, name: DnValue) -> Issuer<'static, KeyPair> {
    let mut params = authority("", DAY);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = issuer.key().serialize_der();
    Issuer::new(params, KeyPair::try_from(key.as_slice()).unwrap())
}
