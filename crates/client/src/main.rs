//! The command line of the inventory's caller.

use std::process::ExitCode;

use client::commands;
use client::output::Output;
use client::settings::ClientArgs;
use countersign::{program, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let settings: ClientArgs = program::parse_with(|command| {
        command.mut_arg("tls_dir", |arg| arg.default_value("certs/orders"))
    });
    let logs = telemetry::init_logs(settings.log_format, settings.default_log_level());
    let mut output = Output::standard(settings.output);
    let done = commands::run(&settings, &mut output).await;
    // Before the last line, which is written directly.
    drop(logs);
    match done {
        Ok(()) => program::exit::OK,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code().into()
        }
    }
}
