//! Resolves the names of targets to addresses, repeatedly while the channel is in use.
//!
//! Known addresses stay in use while the name service fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::dial::{ConnectCause, ConnectError, Dialer};
use crate::client::endpoint::Endpoint;

/// The addresses of a channel's targets.
#[derive(Clone, Debug)]
pub(crate) enum Addresses {
    /// Not resolved yet.
    Resolving,
    /// The addresses of all targets together.
    Known(Arc<[Endpoint]>),
    /// No address, and why.
    Failed(ConnectError),
}

/// Publishes the addresses of all targets, and each change of them.
pub(crate) async fn resolve(dialers: Vec<Arc<Dialer>>, publish: watch::Sender<Addresses>) {
    let Some(interval) = dialers.first().map(|first| first.options.resolve_interval) else {
        return;
    };
    let mut known: Vec<HashMap<SocketAddr, Endpoint>> = vec![HashMap::new(); dialers.len()];
    loop {
        let mut failed = None;
        for (dialer, known) in dialers.iter().zip(&mut known) {
            if let Err(cause) = look_up(dialer, known).await {
                failed = Some(dialer.error(None, cause));
            }
        }
        let all: Arc<[_]> = known.iter().flat_map(HashMap::values).cloned().collect();
        match failed {
            Some(error) if all.is_empty() => publish.send_replace(Addresses::Failed(error)),
            Some(_) | None => publish.send_replace(Addresses::Known(all)),
        };
        sleep(interval).await;
    }
}

async fn look_up(
    dialer: &Arc<Dialer>,
    known: &mut HashMap<SocketAddr, Endpoint>,
) -> Result<(), ConnectCause> {
    let found = lookup_host((dialer.target.host.as_str(), dialer.target.port)).await;
    let found: Vec<_> = found
        .map_err(|e| ConnectCause::Resolve(Arc::new(e)))?
        .collect();
    if found.is_empty() {
        return Err(ConnectCause::NoAddress);
    }
    known.retain(|address, _| found.contains(address));
    for address in found {
        known
            .entry(address)
            .or_insert_with(|| Endpoint::new(address, dialer.clone()));
    }
    Ok(())
}
