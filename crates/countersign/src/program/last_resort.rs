//! Ends a process that cannot end by itself because a disk, a file or a pipe hangs.
//!
//! It has its own thread and runtime, so that nothing else in the process can block it.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::program::exit;
use crate::program::signal::stop_signal;

/// How long the process has to end by itself after it was asked a second time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long the last line may take to be written.
const LAST_LINE: Duration = Duration::from_millis(500);

/// Ends the process for certain once it was asked to stop.
#[derive(Clone, Debug)]
pub struct LastResort(Arc<Notify>);

#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error("ended by force: something still hung {0:?} after the process was asked to stop")]
    TooLong(Duration),
    #[error("ended by force: something hung when the process was asked to stop again")]
    AskedAgain,
}

/// From the first signal to stop on, gives the process `limit` to end; a second signal shortens that to a second. Then
/// it is ended with [`exit::FAILED`] and one line on standard error, whatever still hangs.
///
/// # Errors
/// The system has no thread or no handler for it.
pub fn last_resort(limit: Duration) -> io::Result<LastResort> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let stopping = LastResort(Arc::default());
    let signalled = stopping.0.clone();
    let mut stop = {
        let _runtime = runtime.enter();
        stop_signal()?
    };
    let watch = move || {
        let stuck = runtime.block_on(async {
            let twice = async {
                stop.requested().await;
                signalled.notify_one();
                stop.requested().await;
                sleep(AT_ONCE).await;
            };
            let too_long = async {
                signalled.notified().await;
                sleep(limit).await;
            };
            tokio::select! {
                () = twice => Stuck::AskedAgain,
                () = too_long => Stuck::TooLong(limit),
            }
        });
        say(stuck);
        std::process::exit(exit::FAILED.into())
    };
    thread::Builder::new()
        .name("last-resort".to_owned())
        .spawn(watch)?;
    Ok(stopping)
}

impl LastResort {
    /// Starts the clock without a signal, when the process stops of its own accord.
    pub fn begin(&self) {
        self.0.notify_one();
    }
}

/// Writes the line, unless standard error hangs too.
fn say(stuck: Stuck) {
    let (said, done) = mpsc::channel();
    let line = move || {
        exit::say(&stuck);
        // The receiver is gone when it took too long.
        said.send(()).ok();
    };
    if thread::Builder::new().spawn(line).is_ok() {
        done.recv_timeout(LAST_LINE).ok();
    }
}
