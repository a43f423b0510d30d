//! The inventory server, from the command line to the exit code.

use std::process::ExitCode;

use server::settings::{Command, Settings};
use server::start::{self, StartError};

fn main() -> ExitCode {
    let settings: Settings = app::parse_on_either_side();
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
    let runtime = app::runtime(settings.worker_threads)?;
    let done = {
        let _runtime = runtime.enter();
        start::check(settings).and_then(|checked| match command {
            Some(Command::Check) => checked.check_data(),
            None => runtime.block_on(start::run(checked)),
        })
    };
    app::shut_down(runtime);
    done
}
