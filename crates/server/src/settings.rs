//! What the server is told: each setting is a flag and an `APP_*` variable of the same name.

use std::net::SocketAddr;
use std::path::PathBuf;

use app::{Duration, LogFormat};
use clap::{Args, Parser, Subcommand};
use mtls::{ExpiredCrls, Limits, Reload, Source};

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

    /// How often credentials and policies are read again
    #[arg(
        long,
        env = "APP_TLS_RELOAD_INTERVAL",
        default_value = "1s",
        value_name = "DURATION"
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

/// The limits of the port, as settings.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// From accepting a socket to a verified peer
    #[arg(
        long,
        env = "APP_HANDSHAKE_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION"
    )]
    pub handshake_timeout: Duration,

    /// From a verified peer to its first byte of HTTP/2
    #[arg(
        long,
        env = "APP_PREFACE_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION"
    )]
    pub preface_timeout: Duration,

    /// Connections in all
    #[arg(
        long,
        env = "APP_MAX_CONNECTIONS",
        default_value_t = 1_000,
        value_name = "N"
    )]
    pub max_connections: usize,

    /// Connections of one identity
    #[arg(
        long,
        env = "APP_MAX_CONNECTIONS_PER_PEER",
        default_value_t = 200,
        value_name = "N"
    )]
    pub max_connections_per_peer: usize,

    /// Sockets that have not proved who they are, in all
    #[arg(
        long,
        env = "APP_MAX_UNAUTHENTICATED",
        default_value_t = 256,
        value_name = "N"
    )]
    pub max_unauthenticated: usize,

    /// Sockets that have not proved who they are, from one IP address
    #[arg(
        long,
        env = "APP_MAX_UNAUTHENTICATED_PER_IP",
        default_value_t = 64,
        value_name = "N"
    )]
    pub max_unauthenticated_per_ip: usize,

    /// Calls that one connection may have open
    #[arg(
        long,
        env = "APP_MAX_CONCURRENT_STREAMS",
        default_value_t = 128,
        value_name = "N"
    )]
    pub max_concurrent_streams: u32,

    /// How long a call may take whose caller sets no deadline
    #[arg(
        long,
        env = "APP_DEFAULT_DEADLINE",
        default_value = "1h",
        value_name = "DURATION"
    )]
    pub default_deadline: Duration,

    /// The longest deadline that a caller gets
    #[arg(
        long,
        env = "APP_MAX_DEADLINE",
        default_value = "24h",
        value_name = "DURATION"
    )]
    pub max_deadline: Duration,

    /// Age at which a connection is asked to move, ±10 %
    #[arg(
        long,
        env = "APP_MAX_CONNECTION_AGE",
        default_value = "1h",
        value_name = "DURATION"
    )]
    pub max_connection_age: Duration,

    /// How long a connection that was asked to move may finish its calls
    #[arg(
        long,
        env = "APP_MAX_CONNECTION_AGE_GRACE",
        default_value = "5m",
        value_name = "DURATION"
    )]
    pub max_connection_age_grace: Duration,

    /// Between saying that it is about to stop and stopping to accept
    #[arg(
        long,
        env = "APP_DRAIN_DELAY",
        default_value = "0s",
        value_name = "DURATION"
    )]
    pub drain_delay: Duration,

    /// How long open calls may go on when the server stops
    #[arg(
        long,
        env = "APP_DRAIN_TIMEOUT",
        default_value = "25s",
        value_name = "DURATION"
    )]
    pub drain_timeout: Duration,
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

impl LimitSettings {
    /// Whether these limits let anybody in.
    ///
    /// # Errors
    /// The setting that does not.
    pub fn check(&self) -> Result<(), String> {
        let counts = [
            ("--max-connections", self.max_connections),
            ("--max-connections-per-peer", self.max_connections_per_peer),
            ("--max-unauthenticated", self.max_unauthenticated),
            (
                "--max-unauthenticated-per-ip",
                self.max_unauthenticated_per_ip,
            ),
            (
                "--max-concurrent-streams",
                self.max_concurrent_streams as usize,
            ),
        ];
        let durations = [
            ("--handshake-timeout", self.handshake_timeout),
            ("--preface-timeout", self.preface_timeout),
            ("--default-deadline", self.default_deadline),
            ("--max-deadline", self.max_deadline),
            ("--max-connection-age", self.max_connection_age),
        ];
        let zero_count = counts
            .into_iter()
            .find(|(_, n)| *n == 0)
            .map(|(name, _)| name);
        let zero_time = durations
            .into_iter()
            .find(|(_, d)| d.0.is_zero())
            .map(|(name, _)| name);
        match zero_count.or(zero_time) {
            Some(name) => Err(format!(
                "{name} is 0, so that nobody would be served; give it a larger value"
            )),
            None => Ok(()),
        }
    }
}

impl From<LimitSettings> for Limits {
    fn from(settings: LimitSettings) -> Self {
        Self {
            handshake_timeout: settings.handshake_timeout.0,
            preface_timeout: settings.preface_timeout.0,
            max_connections: settings.max_connections,
            max_connections_per_peer: settings.max_connections_per_peer,
            max_unauthenticated: settings.max_unauthenticated,
            max_unauthenticated_per_ip: settings.max_unauthenticated_per_ip,
            max_concurrent_streams: settings.max_concurrent_streams,
            max_connection_age: settings.max_connection_age.0,
            max_connection_age_grace: settings.max_connection_age_grace.0,
            drain_timeout: settings.drain_timeout.0,
            ..Self::default()
        }
    }
}
