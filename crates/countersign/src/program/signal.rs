//! The signals by which a program is asked to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP, listened to from the moment it is made.
///
/// A terminal that closes sends SIGHUP. Files are reloaded automatically, so SIGHUP has no other use here.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Starts to listen; from then on these signals do not end the process by themselves.
///
/// # Errors
/// The system refuses the handler.
pub fn stop_signal() -> io::Result<Stop> {
    Ok(Stop {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    })
}

impl Stop {
    /// Resolves at the next signal to stop.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
