//! `countersign pki`: the command line of a development PKI.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::certificate::Names;
use super::change::report;
use super::files::Readers;
use super::{
    Directory, IdentityName, KeyType, Origin, Request, Revocations, Roster, Serial, SigningRequest,
    Subject, TrustDomain, Usage, export, files, list, prune, renew,
};
use crate::OutputFormat;
use crate::text::Printable;

/// The identities of `certs/dev.toml`, for a directory that has no such file.
const DEVELOPMENT_IDENTITIES: &str = include_str!("dev.toml");

/// Manage a PKI for development: a root CA, an issuing CA, and certificates that are valid for a day.
#[derive(Debug, Args)]
pub(crate) struct Pki {
    /// The directory of the PKI: the CA in ca/, each identity in a directory of its name.
    #[arg(long, global = true, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create what is missing: the CA, and a certificate for each identity of dev.toml.
    ///
    /// It keeps valid certificates, so you can run it at any time. It never overwrites a CA.
    Init {
        /// Replaces {trust_domain} in the identities.
        #[arg(long, value_name = "DOMAIN", default_value_t)]
        trust_domain: TrustDomain,
        /// The identities and their names [default: dev.toml in DIR, or else the one of the project].
        #[arg(long, value_name = "FILE")]
        identities: Option<PathBuf>,
        /// How long the certificates are valid.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        ttl: countersign::program::Duration,
        #[command(flatten)]
        readers: Readers,
    },
    /// Issue a certificate to an identity.
    Issue(Issue),
    Renew(renew::Renew),
    Export(export::Export),
    /// Revoke a certificate, and give the new revocation list to every identity.
    Revoke {
        /// The identity whose current certificate to revoke.
        #[arg(required_unless_present = "serial")]
        name: Option<IdentityName>,
        /// The serial number of the certificate to revoke, which may have been replaced.
        #[arg(long, value_name = "HEX", conflicts_with = "name")]
        serial: Option<Serial>,
    },
    /// Sign the revocation list again, with the next number and a new validity, and give it to every identity.
    Crl,
    /// Remove the directories of identities that are no longer in dev.toml; without --yes, only list them.
    ///
    /// It leaves other files in those directories. A certificate that was copied elsewhere stays valid until it
    /// expires: revoke it first.
    Prune {
        /// The identities to keep [default: dev.toml in DIR, or else the one of the project].
        #[arg(long, value_name = "FILE")]
        identities: Option<PathBuf>,
        /// Remove them, instead of listing them.
        #[arg(long)]
        yes: bool,
    },
    /// List the certificates: names, serial number, days left, and whether revoked.
    List {
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

#[derive(Debug, Args)]
struct Issue {
    /// The identity, and the name of its directory. Without names, subject, usage and key, it gets what dev.toml says.
    name: IdentityName,
    #[command(flatten)]
    names: Names,
    /// The subject as an RFC 4514 string, most specific part first: CN=mainframe,OU=batch,O=Acme,C=US.
    #[arg(long, value_name = "RFC4514")]
    subject: Option<Subject>,
    /// How long the certificate is valid.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    ttl: countersign::program::Duration,
    /// Which side of a connection it is for [default: both; client if there is only a --subject].
    #[arg(long, value_enum)]
    usage: Option<Usage>,
    /// The kind of key [default: p256].
    #[arg(long, value_enum)]
    key: Option<KeyType>,
    /// Certifies the key of a signing request (PEM) instead of generating one. The names given here are those that the
    /// request may ask for. The certificate gets those that it asks for, or all of them if it asks for none. Its
    /// subject and usages are ignored.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    csr: Option<PathBuf>,
    /// Allows any name that the signing request asks for. Read it first: `openssl req -text -noout -in FILE`.
    #[arg(long, requires = "csr", conflicts_with_all = ["uris", "dns", "ips", "emails"])]
    as_requested: bool,
    /// Replaces the certificate that the identity has, even a revoked one.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    readers: Readers,
}

/// Does what the command line says, and writes what was done to `out`.
/// When it cannot be done, what is on the disk is as it was, or done in part and safe to do again.
pub(crate) fn run(pki: Pki, out: &mut dyn Write) -> Result<ExitCode> {
    let Pki { dir, command } = pki;
    let now = OffsetDateTime::now_utc();
    match command {
        Command::Init {
            trust_domain,
            identities,
            ttl,
            readers,
        } => {
            let roster = roster(&dir, identities, &trust_domain)?;
            let (directory, origin) = Directory::init(&dir, readers.group, now)?;
            let origin = match origin {
                Origin::Made => "made",
                Origin::Found => "kept",
            };
            let changes = roster.entries().map(|(name, request)| {
                let change = directory.provide(name, request, ttl.0)?;
                Ok((name.clone(), change))
            });
            let changes = changes.collect::<Result<Vec<_>>>()?;
            let ca = Printable(dir.join("ca").display()).to_string();
            writeln!(out, "{:<16} {origin}: {ca}", "ca")?;
            report(changes.into_iter().map(Ok), out)?;
        }
        Command::Issue(issue) => issue.run(&dir, now, out)?,
        Command::Renew(renew) => renew.run(&dir, out)?,
        Command::Export(export) => export.run(&dir, &Directory::open(&dir, now)?, out)?,
        Command::Revoke { name, serial } => {
            let directory = Directory::open(&dir, now)?;
            let serial = match (serial, &name) {
                (Some(serial), _) => serial,
                (None, Some(name)) => directory.leaf(name)?.1.serial,
                (None, None) => return Ok(ExitCode::from(countersign::program::exit::USAGE)),
            };
            let revocations = directory.next_list(Some(&serial))?;
            writeln!(out, "revoked {serial}")?;
            report_list(out, &revocations)?;
            if let Some(name) = name {
                writeln!(
                    out,
                    "`{} pki issue {name} --replace` gives it another certificate, with the names of dev.toml if it is there",
                    countersign::program::tool()
                )?;
            }
        }
        Command::Crl => {
            let directory = Directory::open(&dir, now)?;
            report_list(out, &directory.next_list(None)?)?;
        }
        Command::Prune { identities, yes } => {
            let directory = Directory::open(&dir, now)?;
            // Which domain stands in the names does not matter here.
            let roster = roster(&dir, identities, &TrustDomain::default())?;
            let stay: Vec<_> = roster.entries().map(|(name, _)| name).collect();
            prune::run(&directory, &stay, yes, out)?;
        }
        Command::List { output } => list::write(&Directory::open(&dir, now)?, output, out)?,
    }
    Ok(countersign::program::exit::OK)
}

impl Issue {
    fn run(self, dir: &Path, now: OffsetDateTime, out: &mut dyn Write) -> Result<()> {
        let Self { name, usage, .. } = self;
        let csr = self.csr.as_deref().map(signing_request).transpose()?;
        let unspecified = self.names == Names::default()
            && self.subject.is_none()
            && usage.is_none()
            && self.key.is_none();
        let rostered = match csr {
            None if unspecified => rostered(dir, &name, now)?,
            Some(_) | None => None,
        };
        let request = match (&csr, rostered) {
            (None, Some(request)) => request,
            (None, None) if unspecified => bail!(
                "no name is given, and dev.toml has no row for {name}; give --uri, --dns, --ip or --email, or --subject for \
                 a client that has only that"
            ),
            (None, None) => Request::new(
                self.names,
                self.subject,
                usage,
                self.key.unwrap_or_default(),
            )?,
            (Some(csr), _) => {
                let allowed = if self.as_requested {
                    csr.names().clone()
                } else {
                    self.names
                };
                Request::granting(csr, allowed, self.subject, usage)?
            }
        };
        let directory = Directory::open(dir, now)?.read_by(self.readers.group);
        let change = directory.issue(&name, &request, csr.as_ref(), self.ttl.0, self.replace)?;
        report([Ok((name, change))], out)
    }
}

fn report_list(out: &mut dyn Write, revocations: &Revocations) -> Result<()> {
    let Revocations { number, entries } = revocations;
    Ok(writeln!(
        out,
        "revocation list {number}: {} revoked",
        entries.len()
    )?)
}

fn signing_request(file: &Path) -> Result<SigningRequest> {
    let request = SigningRequest::from_pem(&files::read_bytes(file)?);
    request.with_context(|| file.display().to_string())
}

/// What dev.toml says of an identity, under the trust domain that the PKI has.
fn rostered(dir: &Path, name: &IdentityName, now: OffsetDateTime) -> Result<Option<Request>> {
    let domain = Directory::open(dir, now)?.trust_domain(name)?;
    let roster = roster(dir, None, &domain.unwrap_or_default())?;
    let found = roster.entries().find(|(known, _)| *known == name);
    Ok(found.map(|(_, request)| request.clone()))
}

fn roster(dir: &Path, file: Option<PathBuf>, domain: &TrustDomain) -> Result<Roster> {
    let own = dir.join("dev.toml");
    match file.or_else(|| own.exists().then_some(own)) {
        Some(file) => Roster::read(&file, domain),
        None => Roster::parse("certs/dev.toml", DEVELOPMENT_IDENTITIES, domain),
    }
}
