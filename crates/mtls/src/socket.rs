//! The options of every TCP socket, on both sides.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// Sends small frames at once, and gives up a peer that takes nothing of what it is sent for as long as `unread`.
///
/// The PING of HTTP/2 finds no peer that sends and does not read: what it sends counts as an answer. So this is the
/// socket's to do (gRFC A18), where the system can: on Linux.
pub(crate) fn configure(tcp: &TcpStream, unread: Duration) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(tcp).set_tcp_user_timeout(Some(unread))?;
    #[cfg(not(target_os = "linux"))]
    let _ = unread;
    Ok(())
}
