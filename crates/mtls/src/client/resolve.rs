//! Resolves the names of targets to addresses, repeatedly while the channel is in use.
//!
//! Known addresses stay in use while the name service fails. A name that resolves slowly holds back no other.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use base::reload::on_a_thread;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
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

/// What the name of one target resolves to.
#[derive(Default)]
struct ResolvedName {
    endpoints: HashMap<SocketAddr, Endpoint>,
    /// Why the last look-up failed.
    failed: Option<ConnectError>,
}

/// Publishes the addresses of all targets, and each change of them.
pub(crate) async fn resolve(dialers: Vec<Arc<Dialer>>, publish: watch::Sender<Addresses>) {
    let targets = dialers.len();
    let mut names = BTreeMap::<usize, ResolvedName>::new();
    let looking = dialers.into_iter().enumerate();
    let mut looking: FuturesUnordered<_> = looking
        .map(|(target, dialer)| look_up_after(Duration::ZERO, target, dialer))
        .collect();
    while let Some((target, dialer, found)) = looking.next().await {
        names.entry(target).or_default().take(found, &dialer);
        let endpoints = names.values().flat_map(|name| name.endpoints.values());
        let all: Arc<[_]> = endpoints.cloned().collect();
        let failed = names.values().find_map(|name| name.failed.clone());
        match failed {
            Some(error) if all.is_empty() => {
                // Another name may still resolve.
                if names.len() == targets {
                    publish.send_replace(Addresses::Failed(error));
                }
            }
            Some(_) | None => drop(publish.send_replace(Addresses::Known(all))),
        }
        let pause = dialer.options.resolve_interval;
        looking.push(look_up_after(pause, target, dialer));
    }
}

impl ResolvedName {
    fn take(&mut self, found: Result<Vec<SocketAddr>, ConnectCause>, dialer: &Arc<Dialer>) {
        let found = match found {
            Ok(found) => found,
            Err(cause) => {
                self.failed = Some(dialer.error(None, cause));
                return;
            }
        };
        self.failed = None;
        self.endpoints.retain(|address, _| found.contains(address));
        for address in found {
            self.endpoints
                .entry(address)
                .or_insert_with(|| Endpoint::new(address, dialer.clone()));
        }
    }
}

async fn look_up_after(
    pause: Duration,
    target: usize,
    dialer: Arc<Dialer>,
) -> (usize, Arc<Dialer>, Result<Vec<SocketAddr>, ConnectCause>) {
    sleep(pause).await;
    let found = look_up(&dialer).await;
    (target, dialer, found)
}

/// On a thread of its own: the system's name service may take its time, and a program that ends does not wait for it.
async fn look_up(dialer: &Dialer) -> Result<Vec<SocketAddr>, ConnectCause> {
    let name = (dialer.target.host.clone(), dialer.target.port);
    let look_up = move || Ok::<_, io::Error>(name.to_socket_addrs()?.collect::<Vec<_>>());
    let interval = dialer.options.resolve_interval;
    let found = on_a_thread("resolver", interval, look_up, || ()).await;
    let no_thread = || Err(io::Error::other("no thread can be started"));
    let found = found.unwrap_or_else(no_thread);
    let found = found.map_err(|e| ConnectCause::Resolve(Arc::new(e)))?;
    match found.is_empty() {
        true => Err(ConnectCause::NoAddress),
        false => Ok(found),
    }
}
