//! The inventory server, from the command line to the exit code.

use std::process::ExitCode;
use std::time::Duration;

use server::settings::{Command, Settings};
use server::start::{self, StartError};

/// How long work on files may take after the last call has ended.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let settings: Settings = app::parse();
    let logs = app::init_logs(settings.log_format, "info");
    let done = serve_or_check(settings);
    // Before the last word, which goes the direct way.
    drop(logs);
    match done {
        Ok(()) => app::exit::OK,
        Err(error) => app::exit::with(error.exit_code(), &error),
    }
}

fn serve_or_check(settings: Settings) -> Result<(), StartError> {
    let command = settings.command;
    let runtime = tokio::runtime::Runtime::new()?;
    let done = {
        let _runtime = runtime.enter();
        start::check(settings).and_then(|checked| match command {
            Some(Command::Check) => Ok(()),
            None => runtime.block_on(start::run(checked)),
        })
    };
    // A file or a disk that hangs keeps a thread, and is not waited for.
    runtime.shutdown_timeout(LAST_WORK);
    done
}
