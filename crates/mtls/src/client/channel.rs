//! A channel to a server whose identity is verified.
//!
//! A call goes to the less busy of two connections. A call that was provably not processed is sent again once (gRFC A6,
//! transparent retry); a call that was not sent at all goes to another connection. Any other error goes to the caller,
//! with a text that says what happened.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use http::uri::{PathAndQuery, Scheme};
use http::{Extensions, HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::client::balance;
use crate::client::dial::{ConnectError, Dialer, InFlight, OpenConnection};
use crate::client::endpoint::{Endpoint, EndpointState};
use crate::client::options::ChannelOptions;
use crate::client::replay::Replay;
use crate::client::resolve::{self, Addresses};
use crate::client::response::{self, ClientBody, Progress};
use crate::client::target::Target;
use crate::trust::live::Trust;
use crate::trust::server_identity::ServerIdentity;

/// How many connections one call may find closed before a byte of it is sent.
const MAX_UNSENT: u32 = 5;

/// The header with the number of retries so far. Transparent retries do not count, and only the first attempt has one
/// (gRFC A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// A channel for generated clients. Clones share its connections; they end when the last clone is gone.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Endpoints>,
}

struct Endpoints {
    trust: Trust,
    wait_for_ready: bool,
    addresses: watch::Receiver<Addresses>,
    _resolver: AbortOnDropHandle<()>,
}

/// A channel to `target`, whose server must prove to be `expected`. It connects at the first call.
///
/// Call it within a tokio runtime. Every connection uses the credentials that are current when it is made.
pub fn connect(
    target: Target,
    expected: ServerIdentity,
    trust: Trust,
    options: ChannelOptions,
) -> Channel {
    connect_any([(target, expected)], trust, options)
}

/// A channel to the servers of one service, each with its expected identity. Otherwise like [`connect`].
pub fn connect_any(
    servers: impl IntoIterator<Item = (Target, ServerIdentity)>,
    trust: Trust,
    options: ChannelOptions,
) -> Channel {
    let dialers: Vec<_> = servers
        .into_iter()
        .map(|(target, expected)| {
            Arc::new(Dialer {
                target,
                expected,
                trust: trust.clone(),
                options,
            })
        })
        .collect();
    let (publish, addresses) = watch::channel(Addresses::Resolving);
    let resolver = tokio::spawn(resolve::resolve(dialers, publish));
    Channel {
        shared: Arc::new(Endpoints {
            trust,
            wait_for_ready: options.wait_for_ready,
            addresses,
            _resolver: AbortOnDropHandle::new(resolver),
        }),
    }
}

impl Channel {
    async fn send(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let mut deadline = response::deadline(request.headers())?;
        let connected = AtomicBool::new(false);
        let sent = {
            let send = pin!(self.send_until_processed(request, &connected));
            match &mut deadline {
                Some(deadline) => tokio::select! {
                    biased;
                    sent = send => sent?,
                    () = deadline => {
                        return Err(match connected.load(Relaxed) {
                            true => response::deadline_exceeded(),
                            false => response::never_connected(self.last_failure()),
                        });
                    }
                },
                None => send.await?,
            }
        };
        let (response, in_flight) = sent;
        Ok(response.map(|incoming| Body::new(ClientBody::new(incoming, in_flight, deadline))))
    }

    async fn send_until_processed(
        &self,
        request: Request<Body>,
        connected: &AtomicBool,
    ) -> Result<(Response<Incoming>, InFlight), Status> {
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(header::USER_AGENT, USER_AGENT);
        // Nothing below reads them, and each attempt would copy them.
        parts.extensions = Extensions::new();
        let replay = Replay::new(body);
        let mut refused = parts.headers.contains_key(PREVIOUS_ATTEMPTS);
        let mut unsent = 0;
        loop {
            let connection = self.connection().await?;
            connected.store(true, Relaxed);
            let body = replay.body().ok_or_else(|| {
                Status::unavailable("the connection ended while the request was being sent")
            })?;
            parts.uri = absolute(&connection, &parts.uri)?;
            let request = Request::from_parts(parts.clone(), body);
            let sent = connection.send(request).await;
            connection.record.observe(match &sent {
                Ok((response, _)) => response::is_served(response),
                Err(_) => false,
            });
            match sent {
                Ok((response, in_flight)) => {
                    return match response::not_grpc(&response, connection.address) {
                        Some(status) => Err(status),
                        None => Ok((response, in_flight)),
                    };
                }
                Err(error) => {
                    match response::progress(&error) {
                        Progress::NeverSent if unsent < MAX_UNSENT => unsent += 1,
                        // Once: the caller's retry policy has pauses, and so does not flood a server that refuses again.
                        Progress::Refused if !refused => refused = true,
                        Progress::NeverSent | Progress::Refused | Progress::Unknown => {
                            return Err(response::status(error.error(), &connection));
                        }
                    }
                    self.shared.trust.counts().resent.inc();
                }
            }
        }
    }

    /// The less busy of two usable connections picked at random ("power of two choices"), or the first one available.
    async fn connection(&self) -> Result<Arc<OpenConnection>, Status> {
        // A caller that retries in a loop must not block the task that connects.
        consume_budget().await;
        if let Addresses::Known(endpoints) = &*self.shared.addresses.borrow()
            && let ready = endpoints.iter().filter_map(|it| it.state().ready())
            && let Some(connection) = balance::pick(ready.collect())
        {
            return Ok(connection);
        }
        self.awaited_connection().await
    }

    /// Why there was no connection at the last attempt, if one has ended.
    fn last_failure(&self) -> Option<ConnectError> {
        match &*self.shared.addresses.borrow() {
            Addresses::Known(endpoints) => endpoints.iter().find_map(|it| it.state().failed()),
            Addresses::Failed(error) => Some(error.clone()),
            Addresses::Resolving => None,
        }
    }

    /// The first connection available.
    async fn awaited_connection(&self) -> Result<Arc<OpenConnection>, Status> {
        let wait_for_ready = self.shared.wait_for_ready;
        let mut addresses = self.shared.addresses.clone();
        loop {
            let known = addresses.borrow_and_update().clone();
            let endpoints = match known {
                Addresses::Known(endpoints) => endpoints,
                Addresses::Failed(error) if !wait_for_ready => {
                    return Err(response::unreachable(&error));
                }
                Addresses::Failed(_) | Addresses::Resolving => {
                    changed(&mut addresses).await;
                    continue;
                }
            };
            // Subscribed before the state is read, so that no change is missed.
            let change = any_changed(&endpoints);
            let mut ready = Vec::new();
            let mut failed = None;
            let mut pending = false;
            for endpoint in endpoints.iter() {
                match endpoint.state() {
                    EndpointState::Ready(connection) => ready.push(connection),
                    EndpointState::Failed(error) => failed = Some(error),
                    EndpointState::Connecting | EndpointState::Idle => pending = true,
                }
            }
            if let Some(connection) = balance::pick(ready) {
                return Ok(connection);
            }
            match failed {
                Some(error) if !pending && !wait_for_ready => {
                    return Err(response::unreachable(&error));
                }
                Some(_) | None => tokio::select! {
                    () = change => {}
                    () = changed(&mut addresses) => {}
                },
            }
        }
    }
}

/// The target of a request, in the form that HTTP/2 wants it.
fn absolute(connection: &OpenConnection, uri: &Uri) -> Result<Uri, Status> {
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(connection.authority.clone())
        .path_and_query(path)
        .build()
        .map_err(|e| Status::internal(e.to_string()))
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
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}
