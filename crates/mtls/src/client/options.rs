//! How connections of a channel are made and kept.

use std::time::Duration;

/// How a channel connects. The defaults suit an internal service.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// The limit of one attempt: TCP, TLS, and the server's decision about our certificate.
    pub connect_timeout: Duration,
    /// The first pause after a failed attempt; later ones grow by 1.6 up to `max_backoff`, ±20 %.
    pub min_backoff: Duration,
    /// The longest pause between attempts.
    pub max_backoff: Duration,
    /// A connection that is silent for this long gets a PING.
    pub keepalive_interval: Duration,
    /// How long the answer to that PING may take, and how long a server may take nothing of what it is sent (on Linux).
    pub keepalive_timeout: Duration,
    /// How often the name is resolved again.
    pub resolve_interval: Duration,
    /// Whether a call waits, up to its deadline, while no server can be reached, rather than failing at once.
    pub wait_for_ready: bool,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            resolve_interval: Duration::from_secs(10),
            wait_for_ready: false,
        }
    }
}
