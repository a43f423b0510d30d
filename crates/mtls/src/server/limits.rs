//! Limits on what a peer may use, and how long it may take.

use std::time::Duration;

/// The limits of a listening port. The defaults suit an internal service of moderate size.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accepting a socket to a verified peer.
    pub handshake_timeout: Duration,
    /// From a verified peer to the whole preface of HTTP/2.
    pub preface_timeout: Duration,
    /// Connections in all, those in the handshake included. Further ones wait in the listen backlog.
    pub max_connections: usize,
    /// Connections of one peer, by the name that it goes by ([`identity::Peer`] as text). When three quarters of
    /// `max_connections` are taken, a peer gets no more beyond a quarter of this.
    pub max_connections_per_peer: usize,
    /// Unauthenticated sockets in all: the concurrent handshakes. Beyond it one is closed, of the IP address that has the
    /// most, first those that sent nothing. They get at most half of `max_connections`.
    pub max_unauthenticated: usize,
    /// Of these, from one IP address.
    pub max_unauthenticated_per_ip: usize,
    /// Streams that a peer may have open on one connection (RFC 9113 §5.1.2).
    pub max_concurrent_streams: u32,
    /// Streams that a peer opened and reset before we looked at them ("rapid reset"). More end the connection.
    pub max_pending_resets: usize,
    /// Streams that we reset because the peer broke a rule on them. More end the connection.
    pub max_local_resets: usize,
    /// Bytes of one decoded header list (RFC 9113 §6.5.2).
    pub max_header_list_size: u32,
    /// Bytes of one frame, from 16 KiB to 16 MiB - 1 (RFC 9113 §4.2).
    pub max_frame_size: u32,
    /// How long a connection is silent before it is probed with a PING.
    pub keepalive_interval: Duration,
    /// How long the answer to that PING may take, and how long a peer may take nothing of what it is sent (on Linux).
    pub keepalive_timeout: Duration,
    /// How long a response may wait for a caller that does not read it. Twice that at the latest its connection is cut.
    pub unread_timeout: Duration,
    /// How long a connection may be without a call before the peer is asked to make a new one when it needs one.
    pub max_connection_idle: Duration,
    /// How long a connection lives before the peer is asked to make a new one; each lives ±10 % of it.
    pub max_connection_age: Duration,
    /// How long a connection that was asked to go away may finish its calls.
    pub max_connection_age_grace: Duration,
    /// How long all connections together may finish their calls when the server stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            preface_timeout: Duration::from_secs(10),
            max_connections: 1_000,
            max_connections_per_peer: 100,
            max_unauthenticated: 256,
            max_unauthenticated_per_ip: 64,
            max_concurrent_streams: 128,
            max_pending_resets: 20,
            max_local_resets: 128,
            max_header_list_size: 16 << 10,
            max_frame_size: 16 << 10,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            unread_timeout: Duration::from_secs(60),
            max_connection_idle: Duration::from_secs(15 * 60),
            max_connection_age: Duration::from_secs(60 * 60),
            max_connection_age_grace: Duration::from_secs(5 * 60),
            drain_timeout: Duration::from_secs(25),
        }
    }
}
