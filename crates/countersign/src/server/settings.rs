//! The settings of a server: each setting is a flag and an `APP_*` variable of the same name.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use telemetry::{CallLines, LogFormat};

use crate::admin;
#[cfg(feature = "otlp")]
use crate::collector::CollectorSettings;
use crate::credentials::CredentialSettings;
use crate::program;
use crate::server::limits::LimitSettings;

/// The settings of a server: addresses, credentials, policy and limits.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// The address to listen on for callers, over mutual TLS; port 0 selects a free port
    #[arg(
        long,
        env = "APP_LISTEN_ADDR",
        default_value = "0.0.0.0:50051",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,

    /// The address for probes and metrics, in plaintext, or "off"
    #[arg(
        long,
        env = "APP_ADMIN_ADDR",
        default_value = "0.0.0.0:9464",
        value_name = "ADDR:PORT|off"
    )]
    pub admin_listen: admin::Address,

    /// Our credentials and trusted roots
    #[command(flatten)]
    pub credentials: CredentialSettings,

    /// The gRPC authorization policy (gRFC A43)
    #[arg(
        long,
        env = "APP_AUTHZ_POLICY_FILE",
        default_value = "policy.json",
        value_name = "FILE"
    )]
    pub policy: PathBuf,

    /// A second policy, evaluated but not enforced: each call that it decides differently is logged and counted
    #[arg(long, env = "APP_SHADOW_POLICY_FILE", value_name = "FILE")]
    pub shadow_policy: Option<PathBuf>,

    /// Serve gRPC reflection too, to callers that the policy allows
    #[arg(long, env = "APP_REFLECTION")]
    pub reflection: bool,

    /// Serve a page for browsers at /countersign.Page/Show, to callers that the policy allows: who they are here, and
    /// what they may call
    #[arg(long, env = "APP_BROWSER_PAGE")]
    pub browser_page: bool,

    /// Where the spans of calls go
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    pub collector: CollectorSettings,

    /// How log lines are written
    #[arg(long, env = "APP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Which calls are logged when they end
    #[arg(long, env = "APP_LOG_CALLS", value_enum, default_value_t)]
    pub log_calls: CallLines,

    /// Number of worker threads; by default one for each processor, up to 8
    #[arg(
        long,
        env = "APP_WORKER_THREADS",
        default_value_t = default_workers(),
        value_name = "N"
    )]
    pub worker_threads: NonZeroUsize,

    /// Limits on what a peer may use, and how long it may take
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
    /// Ask the admin port of the running server whether it is ready, and exit with 0 or 1
    Probe,
}

fn default_workers() -> NonZeroUsize {
    NonZeroUsize::new(program::default_workers()).unwrap_or(NonZeroUsize::MIN)
}
