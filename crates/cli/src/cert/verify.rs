//! `countersign cert verify`: asks the verifier of the services about a certificate, and writes its answer.

use base::text::timestamp;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use identity::{Peer, Role};
use mtls::codes::{CERTIFICATE_MALFORMED, CHAIN_OUT_OF_ORDER, CREDENTIALS_EMPTY};
use mtls::{Authorities, ExpiredCrls, PemFile, Refusal, ServerIdentity};
use pki_types::ServerName;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::codes;
use crate::text::Printable;

/// Verify a certificate as the services do. Exit with 0 if they accept it, or else with 1 and `CODE: reason`.
///
/// The codes are those of the services' logs. Unusable roots or revocation lists are an error (64).
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The trusted roots, as PEM; may be repeated.
    #[arg(long, required = true, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// The role of its holder: server or client.
    #[arg(long, value_name = "ROLE", value_parser = role)]
    purpose: Role,
    /// The identity that its holder must have: a host name, an IP address, or a SPIFFE ID.
    #[arg(long, value_name = "NAME", value_parser = expected_name)]
    name: Option<ServerIdentity>,
    /// Revocation lists, as PEM; may be repeated.
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Refuses a certificate whose issuer's revocation list has expired.
    #[arg(long)]
    refuse_expired_crl: bool,
    /// Verify it as of this time, in RFC 3339 format [default: now].
    #[arg(long, value_name = "TIME", value_parser = time)]
    time: Option<OffsetDateTime>,
    /// The chain as PEM: the leaf, then each issuer, as its holder presents it.
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
}

/// Reads the identity that the holder of a certificate must have: a host name, an IP address, or a SPIFFE ID.
///
/// # Errors
/// When it is none of these.
pub fn expected_name(name: &str) -> Result<ServerIdentity, String> {
    if name.contains("://") {
        let id = name.parse();
        let id = id.map_err(|source| format!("it is not a SPIFFE ID: {source}"))?;
        return Ok(ServerIdentity::Spiffe(id));
    }
    let host = ServerName::try_from(name.to_owned()).map_err(|_neither| {
        "it is neither a host name, nor an IP address, nor a SPIFFE ID".to_owned()
    })?;
    Ok(ServerIdentity::Name(host))
}

fn role(text: &str) -> Result<Role, &'static str> {
    match text {
        "server" => Ok(Role::Server),
        "client" => Ok(Role::Client),
        _ => Err("use server or client"),
    }
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_error| "a time is written 2026-07-01T12:00:00Z".to_owned())
}

/// What the services would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// They accept it, and its holder is this peer.
    Accepted(Arc<Peer>),
    /// They refuse it.
    Refused {
        /// Stable, as docs/errors.md lists it.
        code: &'static str,
        /// For people; not escaped.
        reason: String,
    },
}

pub(super) fn run(verify: &Verify, out: &mut dyn Write) -> Result<ExitCode> {
    let mut roots = Vec::new();
    for file in &verify.ca {
        roots.push(PemFile::read(file)?);
    }
    let mut crls = Vec::new();
    for file in &verify.crl {
        crls.push(PemFile::read_lists(file)?);
    }
    let expired_crls = match verify.refuse_expired_crl {
        true => ExpiredCrls::Refuse,
        false => ExpiredCrls::Honour,
    };
    let chain = PemFile::read(&verify.chain)?;
    let at = verify.time.map_or_else(SystemTime::now, SystemTime::from);
    // The signature of a list is checked by the issuers in the chain too. A root that is not usable is an error without
    // a chain too.
    let issuers = chain.certificates().unwrap_or_default();
    let authorities = Authorities::of_files(&roots, &crls, &issuers, expired_crls)?;
    for issuer in authorities.unknown_list_issuers() {
        let issuer = Printable(issuer);
        // When standard error is closed, there is nowhere left to say it.
        drop(writeln!(
            io::stderr(),
            "warning: a revocation list is of {issuer}, which is neither among the roots nor in the chain: it is not used"
        ));
    }
    let name = verify.name.as_ref();
    match judge(&authorities, &chain, verify.purpose, name, at) {
        Verification::Accepted(peer) => {
            let until = timestamp(peer.not_after());
            writeln!(out, "accepted: {}, until {until}", Printable(&peer))?;
            Ok(countersign::program::exit::OK)
        }
        Verification::Refused { code, reason } => {
            writeln!(out, "{code}: {}", Printable(reason))?;
            Ok(countersign::program::exit::FAILED.into())
        }
    }
}

/// Judges a chain as the services do, at the time `at`.
pub fn judge(
    authorities: &Authorities,
    chain: &PemFile,
    purpose: Role,
    name: Option<&ServerIdentity>,
    at: SystemTime,
) -> Verification {
    let certificates = match chain.certificates() {
        Ok(certificates) => certificates,
        Err(unusable) => {
            let code = if unusable.code() == CREDENTIALS_EMPTY {
                "CERTIFICATE_MISSING"
            } else {
                "CERTIFICATE_MALFORMED"
            };
            return Verification::Refused {
                code,
                reason: unusable.to_string(),
            };
        }
    };
    let judged = match (purpose, name) {
        (Role::Server, Some(name)) => authorities.judge_server(name, &certificates, at),
        (role, _) => authorities.judge(role, &certificates, at),
    };
    match (judged, purpose, name) {
        (Ok(peer), Role::Client, Some(name)) if !is_named(&peer, name) => Verification::Refused {
            code: codes::WRONG_CLIENT,
            reason: format!("the client is not {name}: it is {peer}"),
        },
        (Ok(peer), _, _) => Verification::Accepted(peer),
        (Err(refusal), _, _) => Verification::Refused {
            code: refusal.code(),
            reason: explained(&refusal, chain),
        },
    }
}

/// The name of a client is compared as it is: a wildcard covers no client.
fn is_named(client: &Peer, name: &ServerIdentity) -> bool {
    let has_id = |id| client.spiffe_id() == Some(id);
    let has_host = |host: &ServerName<'_>| match host {
        ServerName::IpAddress(ip) => client.ip_sans().contains(&std::net::IpAddr::from(*ip)),
        name => {
            let (name, mut sans) = (name.to_str(), client.dns_sans().iter());
            sans.any(|dns| dns.eq_ignore_ascii_case(&name))
        }
    };
    match name {
        ServerIdentity::Spiffe(id) => has_id(id),
        ServerIdentity::Name(host) => has_host(host),
        ServerIdentity::Both(host, id) => has_id(id) && has_host(host),
    }
}

/// The file and the reason, with the place in the file where it is one.
fn explained(refusal: &Refusal, chain: &PemFile) -> String {
    let path = chain.path().display();
    match (refusal, chain.chain()) {
        (Refusal::Malformed(_), Err(place)) if place.code() == CERTIFICATE_MALFORMED => {
            place.to_string()
        }
        (_, Err(order)) if order.code() == CHAIN_OUT_OF_ORDER => {
            format!("{path}: {refusal}; {order}")
        }
        (_, Ok(_) | Err(_)) => format!("{path}: {refusal}"),
    }
}
