//! `countersign policy`: checks, explains, tests and compares gRPC authorization policies (gRFC A43).
//!
//! Every answer is that of the engine that the server runs.

mod case;
mod check;
mod explain;
mod identities;
mod input;
mod matrix;
mod peer;
mod test;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use self::explain::Question;
use self::identities::IdentitySource;
use self::input::{ApiChoice, NameValue};
use crate::OutputFormat;

/// Checks, explains, tests and compares authorization policies (gRFC A43), for any gRPC service.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 success, 1 a check failed or policies differ, 64 an invalid policy, file or command line.

Examples:
  countersign policy check policy.json --strict
  countersign policy check policy.json --api proto/payments/v1/payments.proto
  countersign policy explain --policy policy.json --cert certs/billing/tls.crt \\
      --method /payments.v1.PaymentService/GetPayment
  countersign policy test --policy policy.json policy-cases.json
  countersign policy diff policy.json policy-next.json")]
pub struct PolicyCommand {
    /// An audit logger that the service registers in addition to the built-in ones; may be repeated.
    #[arg(long, global = true, value_name = "NAME")]
    logger: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks that a policy is valid, and reports likely mistakes in it.
    ///
    /// An invalid policy exits with 64. A valid one is also checked against an API: a rule for an RPC that does not
    /// exist is an error (exit code 1), and an RPC without a rule is a warning.
    Check {
        /// The policy.
        file: PathBuf,
        /// The API: a .proto FILE or a directory of them, to which health and reflection are added; a descriptor set
        /// FILE (protoc --include_imports --descriptor_set_out=FILE); "builtin" for the services of the repository that
        /// this tool was built in; or "none" to check by A43 alone, where every finding is a warning [default: the
        /// directory proto of this package; or else builtin, if there is one; or else none]
        #[arg(long, value_name = "FILE|DIR|builtin|none")]
        api: Option<ApiChoice>,
        /// Treats warnings as errors.
        #[arg(long)]
        strict: bool,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Explains how a policy decides one RPC: which rule matched which name of the caller, and why the others did not.
    Explain {
        /// The policy.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        #[command(flatten)]
        question: Question,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Tests a policy against cases: a caller, an RPC, and the expected decision.
    ///
    /// CASES is {"cases": [{"name": "...", "peer": {"uri_sans": ["spiffe://acme.test/orders"]}, "method":
    /// "/package.Service/Method", "metadata": {"key": ["value"]}, "expect": "allow"}]}. A peer has uri_sans, dns_sans
    /// and subject, each empty unless given; "authenticated": false is a caller without a certificate, "tls": false one
    /// without TLS. Metadata is optional. A case may name the rule that must decide as "matched_rule", and have a
    /// "note".
    Test {
        /// The policy.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// The cases.
        cases: PathBuf,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Shows which caller may call which RPC.
    ///
    /// The callers are those named by --certs, --cert or --peers; without any of these, the holders of the
    /// certificates in certs/, and each principal of the policy as written, patterns included.
    Matrix {
        /// The policy [default: policy.json, or else that of this repository].
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Shows the callers and RPCs for which two policies decide differently.
    ///
    /// Exits with 1 when there is a difference, as diff(1) does. The callers are those named by --certs, --cert or
    /// --peers; without any of these, the holders of the certificates in certs/, and each principal of either
    /// policy as written, patterns included.
    Diff {
        /// The policy before.
        old: PathBuf,
        /// The policy after.
        new: PathBuf,
        #[command(flatten)]
        scope: Scope,
    },
}

/// The callers and RPCs of a table.
#[derive(Debug, Args)]
struct Scope {
    #[command(flatten)]
    identities: IdentitySource,
    /// The API: a .proto FILE or a directory of them, to which health and reflection are added; a descriptor set FILE;
    /// "builtin" for the services of the repository that this tool was built in; or "none" for the paths that the
    /// policy names [default: the directory proto of this package; or else builtin, if there is one; or else none]
    #[arg(long, value_name = "FILE|DIR|builtin|none")]
    api: Option<ApiChoice>,
    /// Metadata of the calls; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<NameValue>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Does what the command line says, and writes the answer to `out`.
///
/// # Errors
/// When there is no answer: a policy is not valid, or a file is not what it should be.
pub fn run(command: PolicyCommand, out: &mut dyn Write) -> Result<ExitCode> {
    let PolicyCommand { logger, command } = command;
    let loggers = input::loggers(&logger);
    let holds = match command {
        Command::Check {
            file,
            api,
            strict,
            output,
        } => {
            let policy = input::policy(&file, &loggers)?;
            let api = ApiChoice::or_default(api.as_ref());
            check::write(&file, &policy, &api, strict, output, out)?
        }
        Command::Explain {
            policy,
            question,
            output,
        } => {
            let policy = input::policy(&policy, &loggers)?;
            explain::write(&policy, &question, output, out)?;
            true
        }
        Command::Test {
            policy,
            cases,
            output,
        } => {
            let policy = input::policy(&policy, &loggers)?;
            test::write(&policy, &input::cases(&cases)?, output, out)?
        }
        Command::Matrix { policy, scope } => {
            let policy = policy.unwrap_or_else(input::policy_here);
            let policy = input::policy(&policy, &loggers)?;
            matrix::write(&policy, &scope, out)?;
            true
        }
        Command::Diff { old, new, scope } => {
            let (old, new) = (
                input::policy(&old, &loggers)?,
                input::policy(&new, &loggers)?,
            );
            matrix::write_difference(&old, &new, &scope, out)?
        }
    };
    Ok(match holds {
        true => countersign::program::exit::OK,
        false => ExitCode::from(countersign::program::exit::FAILED),
    })
}
