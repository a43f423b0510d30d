//! The settings for limits on what a peer may use, and how long it may take.

use clap::Args;
use mtls::Limits;

use crate::program::Duration;

/// Descriptors that are not for callers: the admin port's connections, the data file, the logs, and files that are read
/// again.
const OWN_FILES: usize = 96;

/// The fewest connections that a server starts with.
const MIN_CONNECTIONS: usize = 16;

/// The limits of the port, as settings.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// How long a handshake may take, from accepting the socket to a verified peer
    #[arg(
        long,
        env = "APP_HANDSHAKE_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION"
    )]
    pub handshake_timeout: Duration,

    /// How long a verified peer may take to send the HTTP/2 preface
    #[arg(
        long,
        env = "APP_PREFACE_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION"
    )]
    pub preface_timeout: Duration,

    /// Open connections in total; fewer if the limit of open files is too low
    #[arg(
        long,
        env = "APP_MAX_CONNECTIONS",
        default_value_t = 1_000,
        value_name = "N"
    )]
    pub max_connections: usize,

    /// Open connections of one identity; a quarter of this while three quarters of --max-connections are in use
    #[arg(
        long,
        env = "APP_MAX_CONNECTIONS_PER_PEER",
        default_value_t = 100,
        value_name = "N"
    )]
    pub max_connections_per_peer: usize,

    /// Unauthenticated sockets in all; at most half of --max-connections
    #[arg(
        long,
        env = "APP_MAX_UNAUTHENTICATED",
        default_value_t = 256,
        value_name = "N"
    )]
    pub max_unauthenticated: usize,

    /// Unauthenticated sockets from one IP address
    #[arg(
        long,
        env = "APP_MAX_UNAUTHENTICATED_PER_IP",
        default_value_t = 64,
        value_name = "N"
    )]
    pub max_unauthenticated_per_ip: usize,

    /// Open calls of one connection
    #[arg(
        long,
        env = "APP_MAX_CONCURRENT_STREAMS",
        default_value_t = 128,
        value_name = "N"
    )]
    pub max_concurrent_streams: u32,

    /// Open calls of all callers together; more are refused at once
    #[arg(
        long,
        env = "APP_MAX_CONCURRENT_CALLS",
        default_value_t = 4_096,
        value_name = "N"
    )]
    pub max_concurrent_calls: usize,

    /// Open calls of one identity; a quarter of this while three quarters of --max-concurrent-calls are in use
    #[arg(
        long,
        env = "APP_MAX_CONCURRENT_CALLS_PER_PEER",
        default_value_t = 256,
        value_name = "N"
    )]
    pub max_concurrent_calls_per_peer: usize,

    /// Calls of one connection that the peer reset before the server processed them; more end the connection
    #[arg(
        long,
        env = "APP_MAX_PENDING_RESETS",
        default_value_t = 20,
        value_name = "N"
    )]
    pub max_pending_resets: usize,

    /// Calls of one connection that the server reset because they violate HTTP/2; more end the connection
    #[arg(
        long,
        env = "APP_MAX_LOCAL_RESETS",
        default_value_t = 128,
        value_name = "N"
    )]
    pub max_local_resets: usize,

    /// Size of the headers of one request, counted as in RFC 9113 §6.5.2
    #[arg(
        long,
        env = "APP_MAX_HEADER_LIST_SIZE",
        default_value_t = 16_384,
        value_name = "BYTES"
    )]
    pub max_header_list_size: u32,

    /// Size of one HTTP/2 frame
    #[arg(long, env = "APP_MAX_FRAME_SIZE", default_value_t = 16_384, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16_384..=16_777_215))]
    pub max_frame_size: u32,

    /// Size of one request message
    #[arg(
        long,
        env = "APP_MAX_MESSAGE_SIZE",
        default_value_t = 16_384,
        value_name = "BYTES"
    )]
    pub max_message_size: usize,

    /// How long a connection may be silent before the server sends a PING
    #[arg(
        long,
        env = "APP_KEEPALIVE_INTERVAL",
        default_value = "30s",
        value_name = "DURATION"
    )]
    pub keepalive_interval: Duration,

    /// How long a peer may take to answer that PING; on Linux also how long it may leave sent data unacknowledged
    #[arg(
        long,
        env = "APP_KEEPALIVE_TIMEOUT",
        default_value = "20s",
        value_name = "DURATION"
    )]
    pub keepalive_timeout: Duration,

    /// How long the first message of a call may take after its headers, regardless of the deadline of the call
    #[arg(
        long,
        env = "APP_FIRST_MESSAGE_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION"
    )]
    pub first_message_timeout: Duration,

    /// How long a caller may leave a response message unread before its connection is cut
    #[arg(
        long,
        env = "APP_UNREAD_TIMEOUT",
        default_value = "60s",
        value_name = "DURATION"
    )]
    pub unread_timeout: Duration,

    /// The deadline of a call whose caller sets none
    #[arg(
        long,
        env = "APP_DEFAULT_DEADLINE",
        default_value = "1h",
        value_name = "DURATION"
    )]
    pub default_deadline: Duration,

    /// The longest deadline of a call; a longer one is shortened to this
    #[arg(
        long,
        env = "APP_MAX_DEADLINE",
        default_value = "24h",
        value_name = "DURATION"
    )]
    pub max_deadline: Duration,

    /// How long a connection may have no open call before it is closed by GOAWAY
    #[arg(
        long,
        env = "APP_MAX_CONNECTION_IDLE",
        default_value = "15m",
        value_name = "DURATION"
    )]
    pub max_connection_idle: Duration,

    /// Age at which a connection is closed by GOAWAY, ±10 %; earlier if a certificate of either side expires before
    /// that
    #[arg(
        long,
        env = "APP_MAX_CONNECTION_AGE",
        default_value = "1h",
        value_name = "DURATION"
    )]
    pub max_connection_age: Duration,

    /// How long the open calls of a connection may take to finish after that GOAWAY
    #[arg(
        long,
        env = "APP_MAX_CONNECTION_AGE_GRACE",
        default_value = "5m",
        value_name = "DURATION"
    )]
    pub max_connection_age_grace: Duration,

    /// Time between reporting not ready and closing the port, at shutdown
    #[arg(
        long,
        env = "APP_DRAIN_DELAY",
        default_value = "0s",
        value_name = "DURATION"
    )]
    pub drain_delay: Duration,

    /// How long open calls may take to finish at shutdown
    #[arg(
        long,
        env = "APP_DRAIN_TIMEOUT",
        default_value = "25s",
        value_name = "DURATION"
    )]
    pub drain_timeout: Duration,
}

impl LimitSettings {
    /// Checks that a peer can connect and call under these limits.
    ///
    /// # Errors
    /// Names the setting under which none could.
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
            ("--max-concurrent-calls", self.max_concurrent_calls),
            (
                "--max-concurrent-calls-per-peer",
                self.max_concurrent_calls_per_peer,
            ),
            ("--max-pending-resets", self.max_pending_resets),
            ("--max-local-resets", self.max_local_resets),
            ("--max-header-list-size", self.max_header_list_size as usize),
            ("--max-message-size", self.max_message_size),
        ];
        let durations = [
            ("--handshake-timeout", self.handshake_timeout),
            ("--preface-timeout", self.preface_timeout),
            ("--keepalive-interval", self.keepalive_interval),
            ("--keepalive-timeout", self.keepalive_timeout),
            ("--first-message-timeout", self.first_message_timeout),
            ("--unread-timeout", self.unread_timeout),
            ("--default-deadline", self.default_deadline),
            ("--max-deadline", self.max_deadline),
            ("--max-connection-idle", self.max_connection_idle),
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
                "{name} is 0, so no caller could be served; use a larger value"
            )),
            None => Ok(()),
        }
    }

    /// These limits, with no more connections than a process that may open `files` can have. Without descriptors left,
    /// no connection could be accepted, and no file could be reloaded.
    ///
    /// # Errors
    /// Too few are left to serve connections.
    pub fn fit(self, files: usize) -> Result<Self, String> {
        let places = files.saturating_sub(OWN_FILES);
        if places < MIN_CONNECTIONS {
            return Err(format!(
                "this process may open {files} files, and {} are needed; raise the limit, as with `ulimit -n`",
                OWN_FILES + MIN_CONNECTIONS
            ));
        }
        Ok(Self {
            max_connections: self.max_connections.min(places),
            ..self
        })
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
            max_pending_resets: settings.max_pending_resets,
            max_local_resets: settings.max_local_resets,
            max_header_list_size: settings.max_header_list_size,
            max_frame_size: settings.max_frame_size,
            keepalive_interval: settings.keepalive_interval.0,
            keepalive_timeout: settings.keepalive_timeout.0,
            unread_timeout: settings.unread_timeout.0,
            max_connection_idle: settings.max_connection_idle.0,
            max_connection_age: settings.max_connection_age.0,
            max_connection_age_grace: settings.max_connection_age_grace.0,
            drain_timeout: settings.drain_timeout.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        limits: LimitSettings,
    }

    fn limits(args: &[&str]) -> LimitSettings {
        let args = std::iter::once(&"server").chain(args);
        Only::try_parse_from(args).unwrap().limits
    }

    #[test]
    fn the_defaults_are_those_of_the_transport() {
        let ours = Limits::from(limits(&[]));
        assert_eq!(format!("{ours:?}"), format!("{:?}", Limits::default()));
        limits(&[]).check().unwrap();
    }

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        let fitted = |files| limits(&[]).fit(files).map(|fitted| fitted.max_connections);
        assert_eq!(fitted(1_048_576), Ok(1_000));
        assert_eq!(fitted(1_096), Ok(1_000));
        assert_eq!(fitted(1_024), Ok(928));
        assert_eq!(fitted(112), Ok(16));
        let refused = fitted(111).unwrap_err();
        assert!(
            refused.contains("may open 111 files, and 112 are needed"),
            "{refused}"
        );
        assert!(fitted(0).is_err());
    }

    #[test]
    fn a_limit_of_zero_is_an_error_that_names_its_flag() {
        for (args, name) in [
            (["--max-concurrent-calls", "0"], "--max-concurrent-calls"),
            (["--keepalive-timeout", "0s"], "--keepalive-timeout"),
            (["--max-pending-resets", "0"], "--max-pending-resets"),
        ] {
            assert!(
                limits(&args)
                    .check()
                    .unwrap_err()
                    .starts_with(&format!("{name} is 0"))
            );
        }
        assert!(Only::try_parse_from(["server", "--max-frame-size", "100"]).is_err());
    }
}
