//! The settings of the client: each setting is a flag and an `APP_*` variable of the same name.

use std::path::PathBuf;
use std::str::FromStr;
use std::time;

use clap::{Args, Parser, Subcommand, ValueEnum};
use countersign::admin;
use countersign::client::ConnectionSettings;
use countersign::program::Duration;
use countersign::telemetry::LogFormat;
use uuid::Uuid;

/// Calls the inventory service over mutual TLS.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP)]
pub struct ClientArgs {
    /// Where the server is, who it must be, and who we are
    #[command(flatten)]
    pub connection: ConnectionSettings,

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
JSON is one object a line: results on standard output, an error as {\"error\": ...} on standard error. Fields have \
their names in the .proto files (reservation_id, not reservationId).

Exit codes: 0 success; 64 a usage error or an unusable setting or file, and nothing was sent; 69 the server is \
unavailable; 77 the certificate was refused or the policy denied the call; 1 any other failure.";

/// How results and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
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
        /// The identifier of the reservation, to retry one whose response was lost [default: a new one, printed on
        /// standard error before it is used]
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
    /// ends the stream: these exit with 0. An error of the call has its own exit code
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
    /// Make calls at a steady rate until SIGTERM or SIGINT, then print a summary
    Run(WorkSettings),
    /// Ask the admin port of a `run` whether it is ready, and exit with 0 or 1
    Probe {
        /// Where the admin port is; 0.0.0.0 means this machine
        #[arg(
            long,
            env = "APP_ADMIN_ADDR",
            default_value = "off",
            value_name = "ADDR:PORT|off"
        )]
        admin_listen: admin::Address,
    },
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

    /// The methods to call, all equally often; a watch stays open all the time
    #[arg(
        long,
        env = "APP_CALLS",
        value_enum,
        value_delimiter = ',',
        default_value = "get-item,reserve,reserve-many,watch",
        value_name = "CALL,..."
    )]
    pub calls: Vec<WorkKind>,

    /// The items to use in the calls [default: all that the watch finds]
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

    /// The most calls that may be open at once; a call that would exceed this is skipped
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

impl ClientArgs {
    /// What is logged unless `RUST_LOG` says otherwise: a command reports its own result.
    pub fn default_log_level(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "info",
            _ => "error",
        }
    }
}

fn max_in_flight(text: &str) -> Result<usize, &'static str> {
    let most = text.parse().ok().filter(|most| (1..=10_000).contains(most));
    most.ok_or("it must be a number from 1 to 10000")
}
