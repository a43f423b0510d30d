//! The signals by which a program is asked to stop.

use std::future::Future;
use std::io;
#[cfg(feature = "server")]
use std::sync::Mutex;

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

    /// The result of `work`, or none when a signal to stop comes first, or has come before.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.requested() => None,
            done = work => Some(done),
        }
    }
}

/// What [`listen_from_now`] listens with, until [`first_signals`] takes it.
#[cfg(feature = "server")]
static LISTENING: Mutex<Option<io::Result<[Stop; 2]>>> = Mutex::new(None);

/// Starts to listen for [`first_signals`], which says when that failed. The system drops the signals of the first process
/// of a container that does not listen, so this comes before anything that takes time.
#[cfg(feature = "server")]
pub(crate) fn listen_from_now() {
    *LISTENING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(listen());
}

/// The first and the second signal to stop: since [`listen_from_now`], or else from now on.
///
/// # Errors
/// The system refuses the handler.
#[cfg(feature = "server")]
pub(crate) fn first_signals() -> io::Result<[Stop; 2]> {
    LISTENING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take()
        .unwrap_or_else(listen)
}

/// The handlers need a runtime to be set up. The signals are delivered by whichever runtime there is when they are waited
/// for.
#[cfg(feature = "server")]
fn listen() -> io::Result<[Stop; 2]> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _runtime = runtime.enter();
    Ok([stop_signal()?, stop_signal()?])
}
