//! What the server is told: each setting is a flag and an `APP_*` variable of the same name.

mod limits;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use app::{Duration, LogFormat};
use clap::{Parser, Subcommand};
use mtls::{ExpiredCrls, Reload, Source};

pub use limits::LimitSettings;

/// The inventory service: stock levels and reservations, over mutual TLS, for whom the policy allows.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Settings {
    /// Where callers connect, with mutual TLS; port 0 takes a free one
    #[arg(
        long,
        env = "APP_LISTEN_ADDR",
        default_value = "0.0.0.0:50051",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,

    /// Where probes and scrapers connect, in plaintext, or "off"
    #[arg(
        long,
        env = "APP_ADMIN_ADDR",
        default_value = "0.0.0.0:9464",
        value_name = "ADDR:PORT|off"
    )]
    pub admin_listen: admin::Address,

    /// Directory with tls.crt, tls.key, ca.crt and, optionally, crl.pem
    #[arg(
        long,
        env = "APP_TLS_DIR",
        default_value = "certs/inventory",
        value_name = "DIR"
    )]
    pub tls_dir: PathBuf,

    /// One file with key and chain, instead of tls.key and tls.crt
    #[arg(long, env = "APP_TLS_BUNDLE_FILE", value_name = "FILE")]
    pub tls_bundle: Option<PathBuf>,

    /// How soon changed credentials and policies are in use; they are read twice as often
    #[arg(
        long,
        env = "APP_TLS_RELOAD_INTERVAL",
        default_value = "1s",
        value_name = "DURATION",
        value_parser = Duration::positive
    )]
    pub tls_reload_interval: Duration,

    /// Refuse every peer whose issuer's revocation list has expired, rather than honour the old list
    #[arg(long, env = "APP_TLS_REFUSE_EXPIRED_CRL")]
    pub tls_refuse_expired_crl: bool,

    /// Who may call what: a gRPC authorization policy (gRFC A43)
    #[arg(
        long,
        env = "APP_AUTHZ_POLICY_FILE",
        default_value = "crates/server/policy.json",
        value_name = "FILE"
    )]
    pub policy: PathBuf,

    /// A policy that decides beside the other one, changes nothing, and reports each difference
    #[arg(long, env = "APP_SHADOW_POLICY_FILE", value_name = "FILE")]
    pub shadow_policy: Option<PathBuf>,

    /// The data file; it is made when missing
    #[arg(
        long,
        env = "APP_DATA_FILE",
        default_value = "data/inventory.redb",
        value_name = "FILE"
    )]
    pub data: PathBuf,

    /// Serve reflection too, to whom the policy allows it
    #[arg(long, env = "APP_REFLECTION")]
    pub reflection: bool,

    /// How log lines are written
    #[arg(long, env = "APP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Threads that serve; one for each processor, up to 8, unless given
    #[arg(
        long,
        env = "APP_WORKER_THREADS",
        default_value_t = default_workers(),
        value_name = "N"
    )]
    pub worker_threads: NonZeroUsize,

    /// How much a peer may take, and how long it may keep the server waiting
    #[command(flatten)]
    pub limits: LimitSettings,

    /// What to do, if not to serve
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do, if not to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check all settings and the files they name, and exit
    Check,
}

fn default_workers() -> NonZeroUsize {
    NonZeroUsize::new(app::default_workers()).unwrap_or(NonZeroUsize::MIN)
}

impl Settings {
    /// Where the credentials are.
    pub fn source(&self) -> Source {
        let source = Source::directory(&self.tls_dir);
        match &self.tls_bundle {
            Some(bundle) => source.with_bundle(bundle),
            None => source,
        }
    }

    /// How they are kept current.
    pub fn reload(&self) -> Reload {
        Reload {
            interval: self.tls_reload_interval.0,
            expired_crls: if self.tls_refuse_expired_crl {
                ExpiredCrls::Refuse
            } else {
                ExpiredCrls::Honour
            },
        }
    }
}
