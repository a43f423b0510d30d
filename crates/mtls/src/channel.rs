//! The client's door: a channel to the server that proves to be the expected one.
//!
//! A call goes to the least busy connection. One that was provably not processed is sent again (gRFC A6, transparent
//! retry); any other error is the caller's, with a text that says what happened. Never a call without a verified server.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use rustls::pki_types::{DnsName, ServerName};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::dial::{Cause, Connection, Dialer};
use crate::endpoint::{Endpoint, State};
use crate::replay::Replay;
use crate::response;
use crate::trust::Trust;
use crate::verify::ServerIdentity;

/// How often one call is sent in all while it is provably not processed.
const MAX_SENDS: usize = 5;

/// Where a server is: `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: UriAuthority,
    host: String,
    port: u16,
}

/// A target that cannot be dialled.
#[derive(Debug, thiserror::Error)]
#[error("{target:?} is no target: {reason}; use https://HOST:PORT")]
pub struct InvalidTarget {
    target: String,
    reason: &'static str,
}

impl Target {
    /// Reads `https://HOST[:PORT]`; the port is 443 unless given.
    ///
    /// # Errors
    /// Another scheme, no host, or a path: a channel goes to a server and not to a resource.
    pub fn parse(target: &str) -> Result<Self, InvalidTarget> {
        let invalid = |reason| InvalidTarget {
            target: target.to_owned(),
            reason,
        };
        let uri: Uri = target.parse().map_err(|_e| invalid("it is not a URI"))?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(invalid("its scheme is not https"));
        }
        if !matches!(
            uri.path_and_query().map(PathAndQuery::as_str),
            None | Some("/")
        ) {
            return Err(invalid("it has a path"));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| invalid("it has no host"))?
            .clone();
        if authority.as_str().contains('@') {
            return Err(invalid("it has a user"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(invalid("its host is neither a DNS name nor an IP address"));
        }
        let port = authority.port_u16().unwrap_or(443);
        Ok(Self {
            authority,
            host,
            port,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, as the name that the server's certificate should carry.
    pub fn server_name(&self) -> ServerName<'static> {
        self.host.parse::<IpAddr>().map_or_else(
            |_not_ip| {
                // `parse` admitted nothing else.
                DnsName::try_from(self.host.clone()).map_or_else(
                    |_e| ServerName::from(IpAddr::from([0; 4])),
                    ServerName::from,
                )
            },
            ServerName::from,
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// How a channel connects. The defaults suit an internal service.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// For one attempt: TCP, TLS, and the server's verdict.
    pub connect_timeout: Duration,
    /// The first pause after a failed attempt; later ones grow by 1.6 up to `max_backoff`, ±20 %.
    pub min_backoff: Duration,
    /// The longest pause between attempts.
    pub max_backoff: Duration,
    /// How long a connection is silent before it is probed with a PING.
    pub keepalive_interval: Duration,
    /// How long the answer to that PING may take.
    pub keepalive_timeout: Duration,
    /// How often the name is resolved again.
    pub resolve_interval: Duration,
    /// Whether a call waits for its deadline while no server can be reached, rather than failing at once.
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

/// A channel for generated clients. Clones share its connections; they end when the last clone is gone.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Arc<Dialer>,
    addresses: watch::Receiver<Addresses>,
    resolver: AbortHandle,
}

/// What the name of the target stands for.
#[derive(Clone, Debug)]
enum Addresses {
    Resolving,
    Known(Arc<[Endpoint]>),
    Failed(Cause),
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.resolver.abort();
    }
}

/// A channel to `target`, whose server must prove to be `expected`. Nothing is dialled before the first call.
///
/// Call it within a tokio runtime. Every connection uses the credentials that are current when it is made.
pub fn connect(
    target: Target,
    expected: ServerIdentity,
    trust: Trust,
    options: ChannelOptions,
) -> Channel {
    let dialer = Arc::new(Dialer {
        target,
        expected,
        trust,
        options,
    });
    let (publish, addresses) = watch::channel(Addresses::Resolving);
    let resolver = tokio::spawn(resolve(dialer.clone(), publish)).abort_handle();
    Channel {
        shared: Arc::new(Shared {
            dialer,
            addresses,
            resolver,
        }),
    }
}

async fn resolve(dialer: Arc<Dialer>, publish: watch::Sender<Addresses>) {
    let mut known: HashMap<SocketAddr, Endpoint> = HashMap::new();
    loop {
        match lookup_host((dialer.target.host.as_str(), dialer.target.port)).await {
            Ok(found) => {
                let found: Vec<_> = found.collect();
                known.retain(|address, _| found.contains(address));
                for address in found {
                    known
                        .entry(address)
                        .or_insert_with(|| Endpoint::new(address, dialer.clone()));
                }
                publish.send_replace(if known.is_empty() {
                    Addresses::Failed(Cause::NoAddress)
                } else {
                    Addresses::Known(known.values().cloned().collect())
                });
            }
            // Addresses that work are worth more than a name service that does not.
            Err(error) if known.is_empty() => {
                publish.send_replace(Addresses::Failed(Cause::Resolve(Arc::new(error))));
            }
            Err(_) => {}
        }
        sleep(dialer.options.resolve_interval).await;
    }
}

impl Channel {
    async fn send(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let deadline = response::deadline(request.headers())?;
        let send = self.send_until_processed(request, deadline);
        match deadline {
            Some(at) => timeout_at(at, send)
                .await
                .unwrap_or_else(|_late| Err(response::deadline_exceeded())),
            None => send.await,
        }
    }

    async fn send_until_processed(
        &self,
        request: Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        parts.uri = self.absolute(&parts.uri)?;
        parts.headers.insert(header::USER_AGENT, USER_AGENT);
        let replay = Replay::new(body);
        let mut sends = 0;
        loop {
            let connection = self.connection().await?;
            let body = replay.body().ok_or_else(|| {
                Status::unavailable("the connection ended while the request was being sent")
            })?;
            sends += 1;
            let request = Request::from_parts(parts.clone(), body);
            let ending = connection.ending();
            let sent = tokio::select! {
                sent = connection.send(request) => sent,
                refusal = response::lost(ending.clone()) => return Err(response::no_longer_believed(&refusal)),
            };
            match sent {
                Ok((response, in_flight)) => {
                    return Ok(response.map(|incoming| {
                        response::body(incoming, connection.address, in_flight, ending, deadline)
                    }));
                }
                Err(error) if sends < MAX_SENDS && response::was_not_processed(&error) => {
                    self.shared.dialer.trust.counts().resent.add();
                }
                Err(error) => return Err(response::status(error.error(), connection.address)),
            }
        }
    }

    /// The least busy of two usable connections picked at random ("power of two choices"), or the first there is.
    async fn connection(&self) -> Result<Connection, Status> {
        let dialer = &self.shared.dialer;
        let mut addresses = self.shared.addresses.clone();
        loop {
            let known = addresses.borrow_and_update().clone();
            let endpoints = match known {
                Addresses::Known(endpoints) => endpoints,
                Addresses::Failed(cause) if !dialer.options.wait_for_ready => {
                    return Err(response::unreachable(&dialer.error(None, cause)));
                }
                Addresses::Failed(_) | Addresses::Resolving => {
                    changed(&mut addresses).await;
                    continue;
                }
            };
            // Listened to before it is looked at, so that no change is missed.
            let change = any_changed(&endpoints);
            let mut ready = Vec::new();
            let mut failed = None;
            let mut pending = false;
            for endpoint in endpoints.iter() {
                match endpoint.state() {
                    State::Ready(connection) => ready.push(connection),
                    State::Failed(error) => failed = Some(error),
                    State::Connecting | State::Idle => pending = true,
                }
            }
            if let Some(connection) = least_busy_of_two(ready) {
                return Ok(connection);
            }
            match failed {
                Some(error) if !pending && !dialer.options.wait_for_ready => {
                    return Err(response::unreachable(&error));
                }
                Some(_) | None => tokio::select! {
                    () = change => {}
                    () = changed(&mut addresses) => {}
                },
            }
        }
    }

    fn absolute(&self, uri: &Uri) -> Result<Uri, Status> {
        let path = uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.shared.dialer.target.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|e| Status::internal(e.to_string()))
    }
}

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));

async fn changed(addresses: &mut watch::Receiver<Addresses>) {
    if addresses.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Resolves at the first change of any endpoint after this call.
fn any_changed(endpoints: &[Endpoint]) -> impl Future<Output = ()> + Send + use<> {
    let mut changes: Vec<_> = endpoints.iter().map(Endpoint::watch).collect();
    std::future::poll_fn(move |cx| {
        for change in &mut changes {
            if change.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
}

fn least_busy_of_two(mut ready: Vec<Connection>) -> Option<Connection> {
    if ready.is_empty() {
        return None;
    }
    let one = ready.swap_remove(fastrand::usize(..ready.len()));
    if ready.is_empty() {
        return Some(one);
    }
    let other = ready.swap_remove(fastrand::usize(..ready.len()));
    Some(if other.in_flight() < one.in_flight() {
        other
    } else {
        one
    })
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("target", &self.shared.dialer.target)
            .field("expected", &self.shared.dialer.expected)
            .finish_non_exhaustive()
    }
}
