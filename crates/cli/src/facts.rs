//! What a certificate says, as `pki list` and `cert show` print it.

use base::text::timestamp;
use serde::Serialize;
use time::OffsetDateTime;

use crate::pki::certificate::{Certificate, Names};

/// The fields of a certificate that matter to a service. As text they are unescaped, for JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    /// In hexadecimal.
    pub(crate) serial: String,
    /// An RFC 4514 string, or why there is none.
    pub(crate) subject: String,
    /// An RFC 4514 string, or why there is none.
    pub(crate) issuer: String,
    #[serde(flatten)]
    pub(crate) names: Names,
    /// The extended key usages as RFC 5280 names them; null when the extension is missing.
    pub(crate) usages: Option<Vec<String>>,
    /// By RFC 3339.
    pub(crate) not_before: String,
    /// By RFC 3339.
    pub(crate) not_after: String,
    /// Until it expires; negative when it has. One hundredth of a day is about a quarter of an hour.
    pub(crate) days_left: f64,
}

impl Facts {
    /// Reads them from a certificate.
    pub(crate) fn of(certificate: &Certificate, now: OffsetDateTime) -> Self {
        let name = |name: Result<String, identity::InvalidName>| {
            name.unwrap_or_else(|invalid| format!("({invalid})"))
        };
        let validity = certificate.validity;
        Self {
            serial: certificate.serial.to_string(),
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            names: certificate.names.clone(),
            usages: certificate
                .purposes
                .as_ref()
                .map(|purposes| purposes.iter().map(ToString::to_string).collect()),
            not_before: timestamp(validity.not_before),
            not_after: timestamp(validity.not_after),
            // Adding zero makes a negative zero a plain one.
            days_left: ((validity.not_after - now).as_seconds_f64() / 864.0).round() / 100.0 + 0.0,
        }
    }

    /// The name by which gRFC A41 identifies the holder: the first URI, else the first DNS name, else the
    /// subject.
    pub(crate) fn principal(&self) -> &str {
        let Names { uris, dns, .. } = &self.names;
        uris.first().or(dns.first()).unwrap_or(&self.subject)
    }
}
