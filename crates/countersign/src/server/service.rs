//! The services of a program.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::call::Deadline;
use http::{Request, Response};
use identity::Peer;
use prometheus_client::registry::Registry;
use telemetry::TraceContext;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use crate::admin::Readiness;
use crate::program;
use crate::server::table::ServiceTable;

/// Any error of a program's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A server program: its name, its API, and the default locations of its files.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The name in traces, unless `OTEL_SERVICE_NAME` gives another.
    pub name: &'static str,
    /// The API, as an encoded `google.protobuf.FileDescriptorSet` with its imports. The policy is checked against it.
    pub descriptors: &'static [u8],
    /// The default of `--tls-dir`.
    pub tls_dir: &'static str,
    /// The default of `--policy`.
    pub policy: &'static str,
}

impl Service {
    /// Parses the command line and the environment; see [`program::parse`]. Flags may stand on either side of a
    /// subcommand, but for required flags, which stand before it. Call it first: a signal to stop counts from here on.
    pub fn parse<T: clap::Parser>(&self) -> T {
        program::listen_from_now();
        program::parse_with(|command| {
            command
                .mut_arg("tls_dir", |arg| arg.default_value(self.tls_dir))
                .mut_arg("policy", |arg| arg.default_value(self.policy))
                .mut_args(|arg| {
                    // clap has no global argument that is required.
                    let may_follow = !arg.is_required_set();
                    arg.global(may_follow)
                })
        })
    }
}

/// The services of a program.
#[must_use]
pub struct Services {
    pub(crate) table: ServiceTable,
    pub(crate) failed: ServiceFailure,
    pub(crate) readiness: watch::Receiver<Readiness>,
    pub(crate) metrics: Vec<Register>,
}

/// Resolves to the reason why the program cannot go on.
pub(crate) type ServiceFailure = Pin<Box<dyn Future<Output = String> + Send>>;

/// Adds metrics to `/metrics` on the admin port.
pub(crate) type Register = Box<dyn FnOnce(&mut Registry) + Send>;

impl Services {
    /// No service yet.
    pub fn new() -> Self {
        Self {
            table: ServiceTable::default(),
            failed: Box::pin(std::future::pending()),
            readiness: watch::channel(Readiness::Ready).1,
            metrics: Vec::new(),
        }
    }

    /// Adds a service.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.table.add(S::NAME, service);
        self
    }

    /// Stops the server when `failed` resolves, with the reason that it returns. Use it when a handler's dependency is
    /// lost for good.
    pub fn stop_when(self, failed: impl Future<Output = String> + Send + 'static) -> Self {
        Self {
            failed: Box::pin(failed),
            ..self
        }
    }

    /// Makes the server ready only while `readiness` is: a handler's dependency, such as a database, may go away and
    /// come back. Meanwhile the server is up, health checks report NOT_SERVING and `/readyz` gives the reason. Only the
    /// last call of this method counts.
    pub fn ready_while(self, readiness: watch::Receiver<Readiness>) -> Self {
        Self { readiness, ..self }
    }

    /// Adds metrics of the program to `/metrics` on the admin port. Their names must not be in use there.
    pub fn with_metrics(mut self, register: impl FnOnce(&mut Registry) + Send + 'static) -> Self {
        self.metrics.push(Box::new(register));
        self
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("services", &self.table)
            .finish_non_exhaustive()
    }
}

/// The verified caller of a request.
///
/// # Errors
/// INTERNAL, when the request did not come through [`Server::run`](crate::server::Server::run) and so has none.
pub fn peer<T>(request: &tonic::Request<T>) -> Result<&Arc<Peer>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.ok_or_else(|| Status::internal("the call carries no verified identity"))
}

/// A request to another service, made while `request` is answered: in the same trace, and with a deadline 10 ms earlier, so
/// that there is time to answer when the other service is late. The other service sees the identity of this one and not
/// that of the caller, so `message` has to say what it needs to know of the caller.
pub fn child_request<T, M>(request: &tonic::Request<T>, message: M) -> tonic::Request<M> {
    let (parent, mut child) = (request.extensions(), tonic::Request::new(message));
    if let Some(trace) = parent.get::<TraceContext>() {
        child.extensions_mut().insert(trace.clone());
    }
    if let Some(deadline) = parent.get::<Deadline>() {
        let earlier = deadline.0.checked_sub(TO_ANSWER);
        child
            .extensions_mut()
            .insert(Deadline(earlier.unwrap_or(deadline.0)));
    }
    child
}

/// How long a handler has to answer when the service that it called was late.
const TO_ANSWER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_child_request_has_the_trace_and_the_deadline_and_no_metadata() {
        let mut request = tonic::Request::new("asked");
        let (trace, deadline) = (TraceContext::root(true), Deadline(Instant::now()));
        request
            .metadata_mut()
            .insert("authorization", "x".parse().unwrap());
        request.extensions_mut().insert(trace.clone());
        request.extensions_mut().insert(deadline);
        let child = child_request(&request, "asks");
        assert_eq!(*child.get_ref(), "asks");
        assert_eq!(child.extensions().get(), Some(&trace));
        let earlier = Deadline(deadline.0 - TO_ANSWER);
        assert_eq!(child.extensions().get(), Some(&earlier));
        assert!(child.metadata().is_empty());
    }
}
