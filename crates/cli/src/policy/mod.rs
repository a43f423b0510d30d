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

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use authz::InvalidPolicy;
use clap::{Args, Subcommand};

use self::explain::Question;
use self::identities::IdentitySource;
use self::input::{ApiChoice, NameValue};
use crate::OutputFormat;
use crate::cert::CertError;

/// Checks, explains, tests and compares authorization policies (gRFC A43), for any gRPC service.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all of it holds, 1 something does not, 64 an invalid policy, file or command line.

Examples:
  countersign policy check crates/server/policy.json --strict
  countersign policy check policy.json --api proto/payments/v1/payments.proto
  countersign policy explain --policy crates/server/policy.json --cert certs/billing/tls.crt \\
      --method /payments.v1.PaymentService/GetPayment
  countersign policy test --policy crates/server/policy.json crates/server/policy-cases.json
  countersign policy diff policy.json policy-next.json")]
pub struct PolicyCommand {
    /// An audit logger that the service registers beside the built-in ones; may be repeated.
    #[arg(long, global = true, value_name = "NAME")]
    logger: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says whether a policy is valid, and what is probably wrong with it.
    ///
    /// A policy that is not valid is an error (exit code 64). A valid one is checked by itself and against an API: a
    /// rule for an RPC that does not exist is an error (exit code 1), an RPC that no rule mentions is a warning.
    Check {
        /// The policy.
        file: PathBuf,
        /// What can be called: a FILE.proto or a directory of them, to which health and reflection are added; a FILE
        /// with a descriptor set (protoc --include_imports --descriptor_set_out=FILE); "builtin" for the services of
        /// the repository that this tool was built in; or "none" to judge by A43 alone, for which all findings are
        /// warnings [default: the directory proto of this package; or else builtin, if there is one; or else none].
        #[arg(long, value_name = "FILE|DIR|builtin|none")]
        api: Option<ApiChoice>,
        /// Takes warnings for errors.
        #[arg(long)]
        strict: bool,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Says how a policy decides one RPC: by which rule, by which name of the caller, and why not by each other rule.
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
    /// Checks a policy against cases: a caller, an RPC, and the expected decision.
    ///
    /// CASES is {"cases": [{"name": "...", "peer": {"uri_sans": ["spiffe://acme.test/orders"]}, "method":
    /// "/package.Service/Method", "metadata": {"key": ["value"]}, "expect": "allow"}]}. A peer has uri_sans, dns_sans
    /// and subject, each empty unless given; "authenticated": false is a caller without a certificate, "tls": false one
    /// without TLS. Metadata may be left out. A case may name the rule that has to decide as "matched_rule", and have a
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
        /// The policy [default: policy.json, or else crates/server/policy.json].
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Shows the callers and RPCs for which two policies decide differently.
    ///
    /// The exit code is 1 when there is a difference, as of diff(1). The callers are those named by --certs, --cert or
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

/// Which callers and which RPCs a table is about.
#[derive(Debug, Args)]
struct Scope {
    #[command(flatten)]
    identities: IdentitySource,
    /// What can be called: a FILE.proto or a directory of them, to which health and reflection are added; a FILE with a
    /// descriptor set; "builtin" for the services of the repository that this tool was built in; or "none" for the
    /// paths that the policy names [default: the directory proto of this package; or else builtin, if there is one;
    /// or else none].
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
pub fn run(command: PolicyCommand, out: &mut dyn Write) -> Result<ExitCode, PolicyError> {
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

/// Why a `policy` command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A policy is not valid.
    #[error("the policy {} is not valid: {source}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidPolicy,
    },
    /// The API of the repository is asked for by a tool that was built elsewhere.
    #[error("this tool was built without an API of its own; give one by --api FILE.proto")]
    NoBuiltin,
    /// A `.proto` file cannot be compiled.
    #[error(transparent)]
    Contract(#[from] countersign_build::BuildError),
    /// A file does not describe an API.
    #[error("{} does not describe an API: {source}", path.display())]
    Api {
        /// The file, or `builtin`.
        path: PathBuf,
        /// Why.
        source: authz::InvalidApi,
    },
    /// A JSON text is not what it should be.
    #[error("{what}: {reason}")]
    Json {
        /// The file, or the flag.
        what: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// Metadata on the command line that no call can have.
    #[error("--metadata: {0}")]
    Metadata(String),
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// A certificate that the server does not accept from a caller, so that no policy is ever asked.
    #[error("{} is not accepted from a caller: {}: {source}", path.display(), source.code())]
    NoCaller {
        /// The file.
        path: PathBuf,
        /// Why.
        source: identity::InvalidPeer,
    },
    /// There is no caller or RPC to ask a policy about.
    #[error("{0}")]
    Nothing(String),
    /// The output is closed.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
}
