//! What the client is told: each setting is a flag and an `APP_*` variable of the same name.

use std::path::PathBuf;
use std::str::FromStr;
use std::time;

use app::{Duration, LogFormat, Traces};
use clap::{Args, Parser, Subcommand, ValueEnum};
use identity::SpiffeId;
use mtls::{ChannelOptions, ExpiredCrls, Reload, ServerIdentity, Source, Targets};
use pki_types::ServerName;
use uuid::Uuid;

use crate::connection::Connection;

/// For a call, unless `--deadline` says otherwise.
const DEFAULT_DEADLINE: time::Duration = time::Duration::from_secs(5);

/// Calls the inventory service over mutual TLS.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP)]
pub struct Settings {
    /// Where the server is, who it must be, and who we are
    #[command(flatten)]
    pub connection: ConnectionSettings,

    /// How long a call may take, repetitions included [default: 5s; none for `watch`]
    #[arg(
        long,
        env = "APP_DEADLINE",
        value_name = "DURATION",
        global = true,
        value_parser = Duration::positive
    )]
    pub deadline: Option<Duration>,

    /// How results and errors are written
    #[arg(long, env = "APP_OUTPUT", value_enum, default_value_t = Format::Text, global = true)]
    pub output: Format,

    /// How log lines are written, to standard error, at the level of RUST_LOG
    #[arg(long, env = "APP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto, global = true)]
    pub log_format: LogFormat,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
JSON is one object a line: results on standard output, an error as {\"error\": ...} on standard error. Fields have
their names in the .proto files (reservation_id, not reservationId).

Exit codes: 0 done; 64 usage, or a bad setting or file, and nothing was sent; 69 unavailable; 77 refused, by
certificate or by policy; 1 anything else.";

/// How results and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// Where the server is, who it must be, and who we are.
#[derive(Clone, Debug, Args)]
pub struct ConnectionSettings {
    /// The server, or several of one service with commas between them; each call goes to one of them
    #[arg(
        long,
        env = "APP_TARGET",
        default_value = "https://localhost:50051",
        value_name = "https://HOST:PORT,...",
        global = true,
        value_parser = Targets::parse
    )]
    pub target: Targets,

    /// Directory with tls.crt, tls.key, ca.crt and, optionally, crl.pem
    #[arg(
        long,
        env = "APP_TLS_DIR",
        default_value = "certs/orders",
        value_name = "DIR",
        global = true
    )]
    pub tls_dir: PathBuf,

    /// One file with key and chain, instead of tls.key and tls.crt
    #[arg(long, env = "APP_TLS_BUNDLE_FILE", value_name = "FILE", global = true)]
    pub tls_bundle: Option<PathBuf>,

    /// How soon changed credentials are in use; they are read twice as often
    #[arg(
        long,
        env = "APP_TLS_RELOAD_INTERVAL",
        default_value = "1s",
        value_name = "DURATION",
        global = true,
        value_parser = Duration::positive
    )]
    pub tls_reload_interval: Duration,

    /// Refuse a server whose issuer's revocation list has expired, rather than honour the old list
    #[arg(long, env = "APP_TLS_REFUSE_EXPIRED_CRL", global = true)]
    pub tls_refuse_expired_crl: bool,

    /// The SPIFFE ID that the server must have
    #[arg(
        long,
        env = "APP_SERVER_ID",
        value_name = "spiffe://DOMAIN/PATH",
        global = true,
        value_parser = clap::value_parser!(SpiffeId)
    )]
    pub server_id: Option<SpiffeId>,

    /// The DNS name or IP address that the server must have [default: the host of its target, unless
    /// --server-id is given]
    #[arg(
        long,
        env = "APP_SERVER_NAME",
        value_name = "NAME",
        global = true,
        value_parser = server_name
    )]
    pub server_name: Option<ServerName<'static>>,

    /// While no server can be reached, wait for one until the deadline instead of failing at once
    #[arg(long, env = "APP_WAIT_FOR_READY", global = true)]
    pub wait_for_ready: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read one item
    GetItem {
        /// The item
        sku: String,
    },
    /// Reserve units of one item
    Reserve {
        /// The item
        sku: String,
        /// Units to reserve
        quantity: u32,
        /// The identifier of the reservation, to repeat one whose answer was lost [default: a new one, printed
        /// on standard error before it is used]
        // No variable: one identifier for every reservation is never meant.
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
    },
    /// Make the reservations of a file over one stream, and print one line for each row, in order
    ReserveMany {
        /// CSV with the header sku,quantity or sku,quantity,reservation_id
        file: PathBuf,
    },
    /// Print the level of each item, then each change, until Ctrl-C, SIGTERM, --for or --count, or until the server
    /// ends it; each of these is exit code 0, and an error of the call has its own
    Watch {
        /// The one item to watch [default: all]
        sku: Option<String>,
        /// End after this time
        #[arg(long = "for", env = "APP_FOR", value_name = "DURATION", value_parser = Duration::positive)]
        duration: Option<Duration>,
        /// End after this many lines
        #[arg(long, env = "APP_COUNT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Create or set the items of a file: all of them, or none
    Import {
        /// CSV with the header sku,name,quantity
        file: PathBuf,
    },
    /// Ask whether the server, or one of its services, is serving
    Health {
        /// The service, such as inventory.v1.InventoryService [default: the server as a whole]
        service: Option<String>,
    },
    /// Call at a steady rate until SIGTERM or SIGINT, and print what came of it
    Run(WorkSettings),
}

/// What a worker does.
#[derive(Clone, Debug, Args)]
pub struct WorkSettings {
    /// Calls a second
    #[arg(long, env = "APP_RATE", default_value = "10", value_name = "N")]
    pub rate: Rate,

    /// End after this time
    #[arg(long = "for", env = "APP_FOR", value_name = "DURATION", value_parser = Duration::positive)]
    pub duration: Option<Duration>,

    /// What to call, each as often as the others; a watch is open all the time
    #[arg(
        long,
        env = "APP_CALLS",
        value_enum,
        value_delimiter = ',',
        default_value = "get-item,reserve,reserve-many,watch",
        value_name = "CALL,..."
    )]
    pub calls: Vec<WorkKind>,

    /// The items to call about [default: all that the watch finds]
    #[arg(long, env = "APP_SKU", value_delimiter = ',', value_name = "SKU,...")]
    pub sku: Vec<String>,

    /// Where probes and scrapers connect, in plaintext, or "off"
    #[arg(
        long,
        env = "APP_ADMIN_ADDR",
        default_value = "off",
        value_name = "ADDR:PORT|off"
    )]
    pub admin_listen: admin::Address,

    /// Calls that may be open at once; one that is due beyond that is skipped
    #[arg(
        long,
        env = "APP_MAX_IN_FLIGHT",
        default_value = "64",
        value_name = "N",
        value_parser = max_in_flight
    )]
    pub max_in_flight: usize,
}

/// What a worker calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkKind {
    /// Reads an item.
    GetItem,
    /// Reserves one unit.
    Reserve,
    /// Reserves one unit several times over one stream.
    ReserveMany,
    /// Watches all items.
    Watch,
}

/// Calls a second, from one in a thousand seconds to ten thousand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// From one call to the next.
    pub fn period(self) -> time::Duration {
        time::Duration::from_secs_f64(self.0.recip())
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text
            .parse()
            .ok()
            .filter(|rate| (0.001..=10_000.0).contains(rate));
        rate.map(Self)
            .ok_or("it must be a number from 0.001 to 10000")
    }
}

impl Settings {
    /// How long a call may take.
    pub fn deadline(&self) -> time::Duration {
        self.deadline
            .map_or(DEFAULT_DEADLINE, |Duration(deadline)| deadline)
    }
}

impl Settings {
    /// What is logged unless `RUST_LOG` says otherwise: a command tells itself how it ended.
    pub fn default_log_level(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "info",
            Command::GetItem { .. }
            | Command::Reserve { .. }
            | Command::ReserveMany { .. }
            | Command::Watch { .. }
            | Command::Import { .. }
            | Command::Health { .. } => "error",
        }
    }
}

impl ConnectionSettings {
    /// These settings, with where the spans of calls go.
    pub fn connection(&self, traces: Traces) -> Connection {
        let settings = self;
        let source = Source::directory(&settings.tls_dir);
        Connection {
            targets: settings.target.clone(),
            server: match (settings.server_name.clone(), settings.server_id.clone()) {
                (None, None) => None,
                (Some(name), None) => Some(ServerIdentity::Name(name)),
                (None, Some(id)) => Some(ServerIdentity::Spiffe(id)),
                (Some(name), Some(id)) => Some(ServerIdentity::Both(name, id)),
            },
            source: match &settings.tls_bundle {
                Some(bundle) => source.with_bundle(bundle),
                None => source,
            },
            reload: Reload {
                interval: settings.tls_reload_interval.0,
                expired_crls: if settings.tls_refuse_expired_crl {
                    ExpiredCrls::Refuse
                } else {
                    ExpiredCrls::Honour
                },
            },
            options: ChannelOptions {
                wait_for_ready: settings.wait_for_ready,
                ..ChannelOptions::default()
            },
            traces,
        }
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text)
        .map(|name| name.to_owned())
        .map_err(|_e| "neither a DNS name nor an IP address".to_owned())
}

fn max_in_flight(text: &str) -> Result<usize, &'static str> {
    let most = text.parse().ok().filter(|most| (1..=10_000).contains(most));
    most.ok_or("it must be a number from 1 to 10000")
}
