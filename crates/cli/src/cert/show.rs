//! `countersign cert show`: the fields of a certificate, and whether our services could accept it.
//!
//! Without roots, no signature is verified: `cert verify` does that.

use base::text::timestamp;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use authz::Caller;
use clap::Args;
use identity::{Claims, Role};
use mtls::{Authorities, ExpiredCrls, PemFile, Refusal};
use pki_types::CertificateDer;
use serde::Serialize;
use time::OffsetDateTime;

use super::platform::{Opinion, Pkcs12, Platform};
use crate::OutputFormat;
use crate::facts::Facts;
use crate::pki::certificate::Certificate;
use crate::pki::{Authority, Validity};
use crate::text::Printable;

/// Show the fields of a certificate, the identity that our services see in it, and its problems.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// A certificate, or a chain with the leaf first; PEM or DER.
    file: PathBuf,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Report what this platform refuses in it, and why; may be repeated. Works for a PKCS#12 file too.
    #[arg(long = "for", value_enum, value_name = "PLATFORM")]
    platforms: Vec<Platform>,
}

/// Writes what the file says.
pub(super) fn run(show: &Show, out: &mut dyn Write) -> Result<ExitCode> {
    let Show {
        file,
        output,
        platforms,
    } = show;
    let bytes = read(file)?;
    let pkcs12 = (!platforms.is_empty()).then(|| Pkcs12::read(&bytes, platforms));
    if let Some(pkcs12) = pkcs12.flatten() {
        output.write(&pkcs12, out, |out| pkcs12.write(file, out))?;
    } else {
        describe(
            file,
            bytes,
            *output,
            platforms,
            OffsetDateTime::now_utc(),
            out,
        )?;
    }
    Ok(countersign::program::exit::OK)
}

/// Writes what the contents of a file say.
///
/// # Errors
/// When it holds no certificate, or a malformed one.
pub fn describe(
    file: &Path,
    bytes: Vec<u8>,
    output: OutputFormat,
    platforms: &[Platform],
    now: OffsetDateTime,
    out: &mut dyn Write,
) -> Result<()> {
    let chain = certificates(file, bytes)?;
    let shown = ShownCertificate::new(file, &chain, platforms, now)?;
    Ok(output.write(&shown, out, |out| shown.write(out))?)
}

/// More than any chain needs.
const MAX_FILE: u64 = 1024 * 1024;

/// The certificates of a file.
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    certificates(path, read(path)?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    base::file::read(path, MAX_FILE).with_context(|| format!("cannot read {}", path.display()))
}

fn certificates(path: &Path, bytes: Vec<u8>) -> Result<Vec<CertificateDer<'static>>> {
    // A SEQUENCE with a length of two bytes or more: DER, and no text that begins a PEM file.
    if let [0x30, 0x81..=0x84, ..] = bytes[..] {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    Ok(PemFile::new(path, bytes).certificates()?)
}

#[derive(Serialize)]
struct ShownCertificate {
    file: String,
    /// The leaf first.
    certificates: Vec<Facts>,
    as_client: Appearance,
    as_server: Appearance,
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<Opinion>,
}

/// How a service treats a leaf whose chain verifies.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Appearance {
    /// It identifies its holder.
    Identified {
        principal: String,
        spiffe_id: Option<String>,
    },
    /// It refuses.
    Refused { code: &'static str, reason: String },
}

impl ShownCertificate {
    fn new(
        file: &Path,
        chain: &[CertificateDer<'_>],
        platforms: &[Platform],
        now: OffsetDateTime,
    ) -> Result<Self> {
        let unreadable = |index| format!("certificate {} of {}", index + 1, file.display());
        let certificates = chain
            .iter()
            .enumerate()
            .map(|(index, der)| Certificate::from_der(der).with_context(|| unreadable(index)));
        let certificates = certificates.collect::<Result<Vec<_>>>()?;
        let platforms = platforms
            .iter()
            .map(|&platform| Opinion::new(platform, &certificates))
            .collect::<Result<_>>()
            .with_context(|| unreadable(0))?;
        Ok(Self {
            file: file.display().to_string(),
            certificates: certificates.iter().map(|it| Facts::of(it, now)).collect(),
            as_client: Appearance::of(Role::Client, chain),
            as_server: Appearance::of(Role::Server, chain),
            problems: problems(&certificates, now),
            platforms,
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let count = match self.certificates.len() {
            1 => "one certificate".to_owned(),
            more => format!("{more} certificates, the first of which is the holder's"),
        };
        writeln!(out, "{}: {count}", Printable(&self.file))?;
        if let Some(leaf) = self.certificates.first() {
            write_facts(leaf, out)?;
        }
        for issuer in self.certificates.iter().skip(1) {
            let subject = Printable(&issuer.subject);
            writeln!(out, "  then       {subject}, until {}", issuer.not_after)?;
        }
        writeln!(out, "  as client  {}", self.as_client)?;
        writeln!(out, "  as server  {}", self.as_server)?;
        for problem in &self.problems {
            writeln!(out, "  problem    {}", Printable(problem))?;
        }
        self.platforms.iter().try_for_each(|it| it.write(out))
    }
}

fn write_facts(leaf: &Facts, out: &mut dyn Write) -> io::Result<()> {
    /// More names than these are counted, and all of them are in the JSON.
    const SHOWN_NAMES: usize = 20;
    let subject = match &*leaf.subject {
        "" => "(none)",
        subject => subject,
    };
    writeln!(out, "  subject    {}", Printable(subject))?;
    let mut names = leaf.names.labelled(["URI", "DNS", "IP", "e-mail"]);
    for (kind, name) in names.by_ref().take(SHOWN_NAMES) {
        writeln!(out, "  name       {kind} {}", Printable(name))?;
    }
    let more = names.count();
    if more > 0 {
        let way = "--output json shows them";
        writeln!(out, "  name       and {more} more; {way}")?;
    }
    let usages = match &leaf.usages {
        Some(usages) => usages.join(", "),
        None => "(no such extension)".to_owned(),
    };
    writeln!(out, "  usages     {usages}")?;
    let (from, until, days) = (&leaf.not_before, &leaf.not_after, leaf.days_left);
    writeln!(out, "  valid      {from} to {until}, {days:.2} days left")?;
    writeln!(out, "  serial     {}", leaf.serial)?;
    writeln!(out, "  issuer     {}", Printable(&leaf.issuer))
}

impl Appearance {
    fn of(role: Role, chain: &[CertificateDer<'_>]) -> Self {
        if let Some(refusal) = refused_by_any(role, chain) {
            return Self::Refused {
                code: refusal.code(),
                reason: refusal.to_string(),
            };
        }
        match Claims::read(role, chain) {
            Ok(claims) => Self::Identified {
                principal: Caller::claimed(&claims).identity().principal().to_owned(),
                spiffe_id: claims.spiffe_id().map(ToString::to_string),
            },
            Err(invalid) => Self::Refused {
                code: invalid.code(),
                reason: invalid.to_string(),
            },
        }
    }
}

/// The refusals that have nothing to do with roots and times, and that [`Claims`] do not know.
const REGARDLESS: [&str; 3] = [
    "CERTIFICATE_MALFORMED",
    "KEY_NOT_ACCEPTED",
    "CHAIN_TOO_LONG",
];

/// Why the verifier of the services refuses a chain under any root and at any time. It is asked with a root that did
/// not issue it.
fn refused_by_any(role: Role, chain: &[CertificateDer<'_>]) -> Option<Refusal> {
    let now = OffsetDateTime::now_utc();
    let validity = Validity::starting(now, std::time::Duration::from_secs(3600)).ok()?;
    let root = Authority::root("none", validity).ok()?;
    let root = PemFile::new("none", root.certificate_pem().into());
    let authorities = Authorities::of_files(&[root], &[], &[], ExpiredCrls::default()).ok()?;
    let refusal = authorities.judge(role, chain, now.into()).err()?;
    REGARDLESS.contains(&refusal.code()).then_some(refusal)
}

impl std::fmt::Display for Appearance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identified {
                principal,
                spiffe_id: _,
            } if principal.is_empty() => {
                f.write_str("accepted, and known to a policy by no name (it has no URI or DNS name and no subject)")
            }
            Self::Identified {
                principal,
                spiffe_id: _,
            } => {
                write!(f, "identified as {}", Printable(principal))
            }
            Self::Refused { code, reason } => write!(f, "refused: {code}: {}", Printable(reason)),
        }
    }
}

/// What can be seen to be wrong without a root.
fn problems(chain: &[Certificate], now: OffsetDateTime) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, certificate) in chain.iter().enumerate() {
        let position = index + 1;
        let Validity {
            not_before,
            not_after,
        } = certificate.validity;
        if now > not_after {
            let on = timestamp(not_after);
            problems.push(format!("certificate {position} expired on {on}"));
        }
        if now < not_before {
            let from = timestamp(not_before);
            problems.push(format!("certificate {position} is not valid before {from}"));
        }
        if chain
            .get(position)
            .is_some_and(|next| !certificate.names_issuer(next))
        {
            problems.push(format!(
                "certificate {position} was not issued by the one after it; the order is leaf, then each issuer"
            ));
        }
    }
    let problem = match chain {
        [leaf] if !leaf.is_self_issued() => {
            "nothing comes after it; unless a root issued it itself, its peers will not find a path"
        }
        [leaf, ..] if leaf.is_self_issued() && !leaf.is_authority => {
            "it is self-signed; a peer would have to trust this very certificate"
        }
        [_, .., last] if last.is_self_issued() => {
            "the root is sent along, which is of no use: a peer that trusts it has it"
        }
        _ => return problems,
    };
    problems.push(problem.to_owned());
    problems
}
