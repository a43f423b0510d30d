//! One handshake and nothing after it, for tools that ask how a server answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use identity::Peer;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::channel::Target;
use crate::handshake::{self, HandshakeError, Present};
use crate::snapshot::Snapshot;
use crate::verify::ServerIdentity;

/// Does a handshake with the server of `target` at `address`, shows it what `present` says, and closes.
///
/// # Errors
/// Why it came to nothing, on this side or the other: a server that wants a certificate and gets none says so.
pub async fn probe(
    address: SocketAddr,
    target: &Target,
    expected: ServerIdentity,
    snapshot: &Snapshot,
    present: Present,
    patience: Duration,
) -> Result<Arc<Peer>, HandshakeError> {
    let attempt = async {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|e| handshake::read_error(&e))?;
        handshake::connect(tcp, target.server_name(), expected, snapshot, present).await
    };
    let done = timeout(patience, attempt)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut))?;
    Ok(done.peer)
}
