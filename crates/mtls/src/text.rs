//! Texts for webpki's errors.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Why webpki cannot read a certificate; it reads none that is larger than this, and does not say so.
pub(crate) fn of_unreadable(der: &[u8], error: &webpki::Error) -> String {
    const LARGEST: usize = 0xffff;
    if der.len() > LARGEST {
        return format!("it has {} bytes; at most {LARGEST} are read", der.len());
    }
    let critical = match X509Certificate::from_der(der) {
        Ok((_, certificate)) if *error == webpki::Error::UnsupportedCriticalExtension => {
            of_critical(&certificate)
        }
        Ok(_) | Err(_) => None,
    };
    critical.unwrap_or_else(|| of_webpki(error))
}

/// The extensions of a certificate that webpki refuses because they are critical and it does not know them.
pub(crate) fn of_critical(certificate: &X509Certificate<'_>) -> Option<String> {
    const KNOWN: [&str; 7] = [
        "2.5.29.15",
        "2.5.29.17",
        "2.5.29.19",
        "2.5.29.30",
        "2.5.29.31",
        "2.5.29.37",
        "1.3.6.1.4.1.11129.2.4.2",
    ];
    let unknown: Vec<_> = certificate
        .iter_extensions()
        .filter(|extension| extension.critical)
        .map(|extension| extension.oid.to_id_string())
        .filter(|oid| !KNOWN.contains(&oid.as_str()))
        .collect();
    (!unknown.is_empty()).then(|| {
        let unknown = unknown.join(", ");
        format!("it has an unsupported critical extension: {unknown}")
    })
}

/// What webpki finds wrong with a certificate or revocation list, in words where there are any.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "webpki::Error is non_exhaustive; what is not in words here keeps its name"
)]
pub(crate) fn of_webpki(error: &webpki::Error) -> String {
    use webpki::Error as E;
    let words = match error {
        E::BadDer => "it is not well-formed DER",
        E::BadDerTime => "a time in it is malformed, or its end is before 1970",
        E::TrailingData(_) => "it is cut short, or bytes follow its end",
        E::UnsupportedCertVersion => "it is not of version 3 (RFC 5280 §4.1.2.1)",
        E::EndEntityUsedAsCa => "a certificate that is not a CA (CA:TRUE) issued another",
        E::PathLenConstraintViolated => "a CA is further from the leaf than its pathlen allows",
        E::NameConstraintViolation => {
            "a name is outside of the name constraints of its CA, or of a form that they are about and that is not supported in \
             them: only DNS names, IP addresses and directory names are, and no URI or mail address"
        }
        E::ExtensionValueInvalid | E::MalformedExtensions => {
            "an extension is malformed or repeated"
        }
        E::UnsupportedCriticalExtension => "it has an unsupported critical extension",
        E::InvalidSerialNumber => "its serial number is negative or longer than 20 octets",
        E::InvalidCertValidity => "its validity ends before it begins",
        E::SignatureAlgorithmMismatch => "it names two different signature algorithms",
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it is signed by an algorithm that is not accepted, such as SHA-1, or by such a key, such as RSA under \
             2048 bits"
        }
        E::UnsupportedCrlIssuingDistributionPoint => {
            "it is about one kind of certificates without naming a distribution point, or about some reasons, or indirect \
             (RFC 5280 §5.2.5), which is not supported"
        }
        E::UnsupportedDeltaCrl => "it is a delta list (RFC 5280 §5.2.4), which is not supported",
        E::UnsupportedIndirectCrl => {
            "it is an indirect list (RFC 5280 §5.2.5), which is not supported"
        }
        E::UnsupportedRevocationReason | E::UnsupportedRevocationReasonsPartitioning => {
            "it is about some reasons of revocation alone (RFC 5280 §5.2.5), or has one that is not known"
        }
        E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumNameConstraintComparisonsExceeded => "it is too costly to verify",
        other => return format!("{other:?}"),
    };
    words.to_owned()
}

/// Lower-case hexadecimal without separators.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
