//! What was done for the identities of a PKI, in words.

use std::fmt;
use std::io::Write;

use anyhow::Result;
use base::text::timestamp;
use time::OffsetDateTime;

use super::IdentityName;

/// What was done for one identity.
pub(super) enum CertificateChange {
    /// Its certificate is as it should be, until then.
    Kept(OffsetDateTime),
    /// It had no certificate and got one, valid until then.
    Issued(OffsetDateTime),
    /// It got a new certificate, valid until then, because of that.
    Replaced(OffsetDateTime, &'static str),
    /// Its certificate was revoked then, and it gets no new one unless told.
    Revoked(OffsetDateTime),
}

impl fmt::Display for CertificateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(until) => write!(f, "kept: valid until {}", timestamp(*until)),
            Self::Issued(until) => write!(f, "issued: valid until {}", timestamp(*until)),
            Self::Replaced(until, why) => {
                write!(f, "replaced, {why}: valid until {}", timestamp(*until))
            }
            Self::Revoked(since) => write!(f, "left as it is: revoked {}", timestamp(*since)),
        }
    }
}

/// Says what was done for each identity, as it is done.
pub(super) fn report(
    changes: impl IntoIterator<Item = Result<(IdentityName, CertificateChange)>>,
    out: &mut dyn Write,
) -> Result<()> {
    let mut left_revoked = false;
    for change in changes {
        let (name, change) = change?;
        writeln!(out, "{name:<16} {change}")?;
        left_revoked |= matches!(change, CertificateChange::Revoked(_));
    }
    if left_revoked {
        let tool = countersign::program::tool();
        writeln!(
            out,
            "`{tool} pki issue NAME --replace` gives a revoked identity another certificate"
        )?;
    }
    Ok(())
}
