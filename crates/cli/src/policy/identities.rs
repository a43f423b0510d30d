//! The callers that are the rows of a table: holders of certificates, peers of a file, and the principals of a policy.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use authz::{Caller, Policy};
use clap::Args;
use identity::{Claims, Role};

use super::input;
use super::peer::NamedPeer;
use crate::cert;

/// The callers. By default: the holders of the certificates in certs/, and each principal that the policy names.
#[derive(Debug, Args)]
pub(super) struct IdentitySource {
    /// A directory with NAME/tls.crt for each caller, as `pki init` makes it.
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// The certificate of a caller; may be repeated.
    #[arg(long, value_name = "FILE")]
    cert: Vec<PathBuf>,
    /// A file of callers: {"peers": [{"name": "orders", "peer": {"uri_sans": ["spiffe://acme.test/orders"]}}]}.
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
}

/// Where `pki init` puts certificates by default.
const DEFAULT_CERTS: &str = "certs";

/// A caller, as a table names it.
pub(super) struct NamedCaller {
    pub(super) name: String,
    pub(super) acceptance: Acceptance,
}

/// What the server makes of a caller before any policy is asked.
pub(super) enum Acceptance {
    Accepted(Caller),
    /// Its certificate is not accepted, for this reason.
    Refused(&'static str),
}

impl IdentitySource {
    pub(super) fn identities(&self, policies: &[&Policy]) -> Result<Vec<NamedCaller>> {
        let mut found = Vec::new();
        match (&self.certs, &self.cert[..], &self.peers) {
            (None, [], None) => {
                let certs = Path::new(DEFAULT_CERTS);
                // It need not be there.
                if certs.is_dir() {
                    found.extend(of_directory(certs)?);
                }
                add_named(policies, &mut found);
            }
            (certs, files, peers) => {
                if let Some(certs) = certs {
                    let holders = of_directory(certs)?;
                    let certs = certs.display();
                    ensure!(!holders.is_empty(), "there is no NAME/tls.crt in {certs}");
                    found.extend(holders);
                }
                for file in files {
                    found.push(of_certificate(file.display().to_string(), file)?);
                }
                if let Some(peers) = peers {
                    found.extend(input::peers(peers)?.into_iter().map(of_peer));
                }
            }
        }
        ensure!(
            !found.is_empty(),
            "there is no caller to ask about: give --certs, --cert or --peers"
        );
        Ok(found)
    }
}

fn of_directory(dir: &Path) -> Result<Vec<NamedCaller>> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.with_context(|| format!("cannot read {}", dir.display()))?;
    entries.sort_by_key(DirEntry::file_name);
    let mut holders = Vec::new();
    for entry in entries {
        let certificate = entry.path().join("tls.crt");
        if certificate.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            holders.push(of_certificate(name, &certificate)?);
        }
    }
    Ok(holders)
}

fn of_certificate(name: String, file: &Path) -> Result<NamedCaller> {
    let acceptance = match Claims::read(Role::Client, &cert::chain(file)?) {
        Ok(claims) => Acceptance::Accepted(Caller::claimed(&claims)),
        Err(refusal) => Acceptance::Refused(refusal.code()),
    };
    Ok(NamedCaller { name, acceptance })
}

fn of_peer(NamedPeer { name, peer }: NamedPeer) -> NamedCaller {
    let acceptance = Acceptance::Accepted(peer.0);
    NamedCaller { name, acceptance }
}

/// Adds each principal of the policies, as written, that nobody is known by yet. A pattern stands for one of those whom
/// it means.
fn add_named(policies: &[&Policy], found: &mut Vec<NamedCaller>) {
    let mut known: HashSet<String> = found.iter().filter_map(only_name).collect();
    for principal in policies.iter().flat_map(|policy| policy.principals()) {
        if known.insert(principal.clone()) {
            found.push(NamedCaller {
                acceptance: Acceptance::Accepted(named(&principal)),
                name: match principal.is_empty() {
                    true => "(no certificate)".to_owned(),
                    false => principal,
                },
            });
        }
    }
}

fn only_name(identity: &NamedCaller) -> Option<String> {
    let Acceptance::Accepted(caller) = &identity.acceptance else {
        return None;
    };
    let mut names = caller.identity().names();
    let name = names.next()?;
    names.next().is_none().then(|| name.to_owned())
}

/// Whom a principal is meant for: by the looks of it, since a policy does not say.
fn named(principal: &str) -> Caller {
    let (mut uri_sans, mut dns_sans, mut subject) = (Vec::new(), Vec::new(), String::new());
    match principal {
        "" => return Caller::Anonymous,
        uri if uri.contains("://") => uri_sans.push(uri.to_owned()),
        name if name.contains('=') => subject = subject_of(name),
        dns => dns_sans.push(dns.to_owned()),
    }
    Caller::Authenticated {
        uri_sans,
        dns_sans,
        subject,
    }
}

/// A subject that a pattern matches. It ends where an RDN does, so that the pattern itself is none.
fn subject_of(pattern: &str) -> String {
    const ANYBODY: &str = "CN=anybody";
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) if end.starts_with(',') => format!("{ANYBODY}{end}"),
        (_, Some(start)) if start.ends_with(',') => format!("{start}{ANYBODY}"),
        (Some(end), _) => end.to_owned(),
        (None, Some(start)) => start.to_owned(),
        (None, None) => pattern.to_owned(),
    }
}
