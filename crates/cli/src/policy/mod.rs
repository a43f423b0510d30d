//! `countersign policy`: checks, explains, tests and compares gRPC authorization policies (gRFC A43).
//!
//! Every answer is that of the engine that the server runs.

mod case;
mod check;
mod explain;
mod identities;
pub(crate) mod input;
mod matrix;
mod peer;
mod test;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use countersign::program::{exit, tool};

/// Check, explain, test and compare authorization policies (gRFC A43), for any gRPC service.
#[derive(Debug, Args)]
#[command(after_help = examples())]
pub struct PolicyCommand {
    /// An audit logger that the service registers in addition to the built-in ones; may be repeated.
    #[arg(long, global = true, value_name = "NAME")]
    logger: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

fn examples() -> String {
    let tool = tool();
    format!(
        "\
Exit codes: 0 success, 1 a check failed or policies differ, 64 an invalid policy, file or command line.

Examples:
  {tool} policy check policy.json --strict
  {tool} policy check policy.json --api proto/payments/v1/payments.proto
  {tool} policy explain --policy policy.json --cert certs/billing/tls.crt \\
      --method /payments.v1.PaymentService/GetPayment
  {tool} policy test --policy policy.json policy-cases.json
  {tool} policy diff policy.json policy-next.json"
    )
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Explain(explain::Explain),
    Test(test::Test),
    Matrix(matrix::Matrix),
    Diff(matrix::Diff),
}

/// Does what the command line says, and writes the answer to `out`.
///
/// # Errors
/// When there is no answer: a policy is not valid, or a file is not what it should be.
pub fn run(command: PolicyCommand, out: &mut dyn Write) -> Result<ExitCode> {
    let PolicyCommand { logger, command } = command;
    let loggers = input::loggers(&logger);
    let holds = match command {
        Command::Check(check) => check.run(&loggers, out)?,
        Command::Explain(explain) => explain.run(&loggers, out)?,
        Command::Test(test) => test.run(&loggers, out)?,
        Command::Matrix(matrix) => matrix.run(&loggers, out)?,
        Command::Diff(diff) => diff.run(&loggers, out)?,
    };
    Ok(match holds {
        true => exit::OK,
        false => exit::FAILED.into(),
    })
}
