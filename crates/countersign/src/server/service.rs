//! What a program gives to be served, and the way from its `main` to a running server.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use http::{Request, Response};
use identity::Peer;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::admin;
use crate::program::{self, exit};
use crate::server::settings::{Command, Settings};
use crate::server::start::{self, StartError};

/// Any error of a program's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A program that serves: its name, its API, and where its files are unless a setting says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The name in traces, unless `OTEL_SERVICE_NAME` gives another.
    pub name: &'static str,
    /// The API, as an encoded `google.protobuf.FileDescriptorSet` with its imports. The policy is held against it.
    pub descriptors: &'static [u8],
    /// The default of `--tls-dir`.
    pub tls_dir: &'static str,
    /// The default of `--policy`.
    pub policy: &'static str,
}

impl Service {
    /// Parses the command line and the environment; see [`program::parse`]. Flags may stand on either side of a
    /// subcommand.
    pub fn parse<T: clap::Parser>(&self) -> T {
        program::parse_with(|command| {
            command
                .mut_arg("tls_dir", |arg| arg.default_value(self.tls_dir))
                .mut_arg("policy", |arg| arg.default_value(self.policy))
                .mut_args(|arg| arg.global(true))
        })
    }

    /// A server of this service, to be run.
    pub fn server(self, settings: Settings) -> Server {
        Server {
            service: self,
            settings,
            checks: Vec::new(),
        }
    }
}

/// A server that does not run yet.
#[must_use = "it serves when it is run"]
pub struct Server {
    service: Service,
    settings: Settings,
    checks: Vec<Check>,
}

type Check = Box<dyn FnOnce() -> Result<(), BoxError>>;

impl Server {
    /// Something that the subcommand `check` checks too. It must not take what a running server holds.
    pub fn check<E: Into<BoxError>>(
        mut self,
        check: impl FnOnce() -> Result<(), E> + 'static,
    ) -> Self {
        self.checks.push(Box::new(|| check().map_err(Into::into)));
        self
    }

    /// Checks everything that the settings name, and serves what `build` gives until a signal to stop: the whole of a
    /// `main`. The subcommand `check` ends after the check.
    ///
    /// `build` runs once everything is checked and before a port is bound, within a tokio runtime.
    pub fn run<B, F>(self, build: B) -> ExitCode
    where
        B: FnOnce() -> F,
        F: Future<Output = Result<Services, BoxError>>,
    {
        if self.settings.command == Some(Command::Probe) {
            return probe(self.settings.admin_listen);
        }
        let logs = telemetry::init_logs(self.settings.log_format, "info");
        let done = self.check_or_serve(build);
        // Before the last word, which goes the direct way.
        drop(logs);
        match done {
            Ok(()) => exit::OK,
            Err(error) => exit::with(error.exit_code(), &error),
        }
    }

    fn check_or_serve<B, F>(self, build: B) -> Result<(), StartError>
    where
        B: FnOnce() -> F,
        F: Future<Output = Result<Services, BoxError>>,
    {
        let command = self.settings.command;
        let runtime = program::runtime(self.settings.worker_threads)?;
        let done = {
            let _runtime = runtime.enter();
            start::check(&self.service, self.settings).and_then(|checked| match command {
                Some(Command::Check) => self
                    .checks
                    .into_iter()
                    .try_for_each(|check| check().map_err(StartError::Service)),
                // A probe has ended before.
                Some(Command::Probe) => Ok(()),
                None => runtime.block_on(start::run(checked, build)),
            })
        };
        program::shut_down(runtime);
        done
    }
}

/// Asks a running server, with one thread and no log.
fn probe(address: admin::Address) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::with(exit::FAILED, &error),
    };
    match runtime.block_on(admin::probe(address)) {
        Ok(answer) => {
            // The exit code says it too.
            drop(writeln!(io::stdout(), "{answer}"));
            exit::OK
        }
        Err(error) => exit::with(exit::FAILED, &error),
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("service", &self.service.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The services of a program.
#[must_use]
pub struct Services {
    pub(crate) routes: Routes,
    pub(crate) names: Vec<&'static str>,
    pub(crate) failed: Failed,
}

/// Resolves to the reason why the program cannot go on.
pub(crate) type Failed = Pin<Box<dyn Future<Output = String> + Send>>;

impl Services {
    /// None yet.
    pub fn new() -> Self {
        Self {
            routes: Routes::default(),
            names: Vec::new(),
            failed: Box::pin(std::future::pending()),
        }
    }

    /// One service more.
    pub fn add_service<S>(self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let mut names = self.names;
        names.push(S::NAME);
        Self {
            routes: self.routes.add_service(service),
            names,
            ..self
        }
    }

    /// Stops the server when `failed` resolves, with the reason that it gives: what a handler needs is gone for good.
    pub fn stop_when(self, failed: impl Future<Output = String> + Send + 'static) -> Self {
        Self {
            failed: Box::pin(failed),
            ..self
        }
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
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// The verified caller of a request.
///
/// # Errors
/// INTERNAL, when the request did not come through [`Server::run`] and so has none.
pub fn peer<T>(request: &tonic::Request<T>) -> Result<&Arc<Peer>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.ok_or_else(|| Status::internal("the call carries no verified identity"))
}
