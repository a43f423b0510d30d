//! `countersign doctor`: why a connection to a server fails, in one line, with what to do about it.
//!
//! It changes nothing, and sends a message to no RPC but the health check.

mod call;
mod diagnosis;
mod examine;
mod openssl;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use identity::SpiffeId;
use mtls::{InvalidTarget, ServerIdentity, Target};
use pki_types::ServerName;

use examine::examine;

use crate::OutputFormat;

/// Say in one line why a connection to a server fails, and what to do about it
///
/// It makes one call, of grpc.health.v1.Health/Check, and one without a message for --method.
///
/// Exit codes: 0 no fault found, 1 a fault found, 64 a usage error.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The server, as HOST:PORT
    #[arg(value_name = "HOST:PORT", value_parser = target)]
    target: Target,

    /// Our credentials: a directory with tls.crt, tls.key, ca.crt and, optionally, crl.pem
    #[arg(
        long,
        env = "APP_TLS_DIR",
        default_value = "certs/orders",
        value_name = "DIR"
    )]
    tls_dir: PathBuf,

    /// The SPIFFE ID that the server must have
    #[arg(
        long,
        env = "APP_SERVER_ID",
        value_name = "spiffe://DOMAIN/PATH",
        value_parser = clap::value_parser!(SpiffeId)
    )]
    server_id: Option<SpiffeId>,

    /// The DNS name or IP address that the server must have [default: HOST, unless --server-id is given]
    #[arg(long, env = "APP_SERVER_NAME", value_name = "NAME", value_parser = server_name)]
    server_name: Option<ServerName<'static>>,

    /// Also check whether the policy allows us to call this method; no message is sent to it
    #[arg(long, value_name = "/PACKAGE.SERVICE/METHOD", value_parser = method)]
    method: Option<http::uri::PathAndQuery>,

    /// How long each step may take
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    patience: countersign::program::Duration,

    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Examines, and writes down what was found.
pub(crate) fn run(doctor: &Doctor, out: &mut dyn Write) -> Result<ExitCode> {
    let diagnosis = tokio::runtime::Runtime::new()?.block_on(examine(doctor));
    let output = doctor.output;
    output.write(&diagnosis, out, |out| diagnosis.write(out))?;
    Ok(if diagnosis.is_healthy() {
        countersign::program::exit::OK
    } else {
        countersign::program::exit::FAILED.into()
    })
}

impl Doctor {
    /// The identity that the server must have.
    fn expected(&self) -> ServerIdentity {
        ServerIdentity::of(self.server_name.clone(), self.server_id.clone())
            .unwrap_or_else(|| ServerIdentity::Name(self.target.server_name()))
    }
}

fn target(text: &str) -> Result<Target, InvalidTarget> {
    if text.contains("://") {
        return Target::parse(text);
    }
    Target::parse(&format!("https://{text}"))
}

fn server_name(text: &str) -> Result<ServerName<'static>, &'static str> {
    ServerName::try_from(text)
        .map(|name| name.to_owned())
        .map_err(|_e| "neither a DNS name nor an IP address")
}

fn method(text: &str) -> Result<http::uri::PathAndQuery, &'static str> {
    const WANTED: &str = "no method; use /PACKAGE.SERVICE/METHOD";
    match text.split('/').collect::<Vec<_>>()[..] {
        ["", service, name] if !service.is_empty() && !name.is_empty() => {
            text.parse().map_err(|_invalid| WANTED)
        }
        _ => Err(WANTED),
    }
}
