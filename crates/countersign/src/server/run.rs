//! Runs a server from a program's `main`.

use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::panic::resume_unwind;
use std::process::ExitCode;

use tracing::info;

use crate::admin;
use crate::events;
use crate::program::{self, exit};
use crate::server::service::{BoxError, Service, Services};
use crate::server::settings::{Command, Settings};
use crate::server::start::{self, Checked, StartError};

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

type Check = Box<dyn FnOnce() -> Result<(), BoxError> + Send>;

impl Server {
    /// An additional check for the subcommand `check`. It must not lock what a running server uses. It may block, on a
    /// thread of a tokio runtime.
    pub fn check<E: Into<BoxError>>(
        mut self,
        check: impl FnOnce() -> Result<(), E> + Send + 'static,
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
        let [mut stop, again] = program::first_signals()?;
        let runtime = program::runtime(self.settings.worker_threads)?;
        let only_check = self.settings.command == Some(Command::Check);
        let done = runtime.block_on(async {
            // On a thread of its own: a file may hang, and an agent may take its time.
            let checking = tokio::task::spawn_blocking(move || self.checked(only_check));
            let Some(checked) = stop.or(checking).await else {
                info!("{}", events::ASKED_TO_STOP);
                return if only_check {
                    Err(StartError::Interrupted)
                } else {
                    Ok(())
                };
            };
            match checked.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))? {
                Some(checked) => start::run(checked, [stop, again], build).await,
                None => Ok(()),
            }
        });
        program::shut_down(runtime);
        done
    }

    /// What is to be served, unless a check was all that was asked for.
    fn checked(self, only_check: bool) -> Result<Option<Checked>, StartError> {
        let checked = start::check(&self.service, self.settings)?;
        if !only_check {
            return Ok(Some(checked));
        }
        // With `checked` still open, so that the record of revocation lists stays as it is.
        for check in self.checks {
            check().map_err(StartError::Service)?;
        }
        // The exit code says it too.
        drop(writeln!(
            io::stdout(),
            "the settings, and all that they name, are valid"
        ));
        Ok(None)
    }
}

/// Asks a running server, with one thread and no log.
fn probe(address: admin::Address) -> ExitCode {
    let asked = || {
        let [mut stop, _again] = program::first_signals()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(stop.or(admin::probe(address))))
    };
    match asked().map_err(StartError::System) {
        Ok(Some(Ok(answer))) => {
            // The exit code says it too.
            drop(writeln!(io::stdout(), "{answer}"));
            exit::OK
        }
        Ok(Some(Err(error))) => exit::with(exit::FAILED, &error),
        Ok(None) => exit::with(exit::FAILED, &StartError::Interrupted),
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
