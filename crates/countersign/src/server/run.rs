//! Runs a server from a program's `main`.

use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::admin;
use crate::program::{self, Stop, exit};
use crate::server::service::{BoxError, Service, Services};
use crate::server::settings::{Command, Settings};
use crate::server::start::{self, StartError};

impl Service {
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
    /// An additional check for the subcommand `check`. It must not lock what a running server uses.
    pub fn check<E: Into<BoxError>>(
        mut self,
        check: impl FnOnce() -> Result<(), E> + 'static,
    ) -> Self {
        self.checks.push(Box::new(|| check().map_err(Into::into)));
        self
    }

    /// Checks everything that the settings name, and serves the services of `build` until a signal to stop. This is all
    /// that `main` has to do. The subcommand `check` ends after the check.
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
        program::warn_of_ignored_variables();
        let done = self.check_or_serve(build);
        // Before the last line, which is written directly.
        drop(logs);
        match done {
            Ok(()) => exit::OK,
            Err(error) => exit::with_next_step(error.exit_code(), &error, error.next_step()),
        }
    }

    fn check_or_serve<B, F>(self, build: B) -> Result<(), StartError>
    where
        B: FnOnce() -> F,
        F: Future<Output = Result<Services, BoxError>>,
    {
        let Self {
            service,
            settings,
            checks,
        } = self;
        let runtime = program::runtime(settings.worker_threads)?;
        let done = {
            let _runtime = runtime.enter();
            match settings.command {
                Some(Command::Check) => {
                    let mut checks = checks.into_iter();
                    start::check(&service, settings).and_then(|_checked| {
                        checks.try_for_each(|check| check().map_err(StartError::Service))
                    })
                }
                // A probe has ended before.
                Some(Command::Probe) => Ok(()),
                None => signals().and_then(|signals| {
                    let checked = start::check(&service, settings)?;
                    runtime.block_on(start::run(checked, signals, build))
                }),
            }
        };
        program::shut_down(runtime);
        done
    }
}

/// Listens to the first and the second signal to stop, before anything that takes time: the system drops the signals of
/// the first process of a container that does not listen, and it would go on.
fn signals() -> Result<[Stop; 2], StartError> {
    Ok([program::stop_signal()?, program::stop_signal()?])
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
