//! The demo: two real processes, callers that are allowed, denied and refused, a rotation and a revocation.
//!
//! Uses the programs as an operator would, and judges what they do by the policy and nothing else. What it starts, it
//! ends, also when it is interrupted.

mod callers;
mod live;
mod programs;
mod report;
mod spec;
mod table;

use std::io::Write;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use authz::Policy;
use time::OffsetDateTime;

use self::callers::players;
use self::programs::Programs;
use self::report::Report;
use self::spec::{ServerSpec, Spec};
use self::table::CallTable;

/// Run a server and its clients, and show who may call what, a rotation and a revocation
///
/// demo.toml, or [package.metadata.demo] in Cargo.toml, says what it runs and calls.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// The description of the demo [default: demo.toml in this directory or the nearest above that has one]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Keep the directory with the PKI, the data and the servers' logs
    #[arg(long)]
    keep: bool,
}

/// Shows everything, and says at the end whether all of it was as expected.
pub(crate) fn run(demo: &Demo, out: &mut dyn Write) -> Result<ExitCode> {
    let spec = Spec::read(demo.file.as_deref())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let directory = tempfile::Builder::new()
        .prefix("countersign-demo-")
        .tempdir()?;
    let steps = 6 + usize::from(spec.prepare.is_some()) + usize::from(spec.revocation.is_some());
    let mut report = Report::new(steps, out);
    let shown = runtime.block_on(async {
        let mut stop = countersign::program::stop_signal()?;
        tokio::select! {
            shown = show(&spec, directory.path(), &mut report) => shown,
            () = stop.requested() => Err(anyhow!("interrupted; everything that was started is ended")),
        }
    });
    // Whatever still runs is killed with its handle.
    drop(runtime);
    if demo.keep {
        writeln!(report.out, "kept: {}", directory.keep().display())?;
    } else if shown.is_err() || !report.surprises.is_empty() {
        let text = "With --keep, the logs of the servers stay; they may say more.";
        writeln!(report.out, "{text}")?;
    }
    shown?;
    report.sum_up(&spec)
}

async fn show(spec: &Spec, directory: &Path, report: &mut Report<'_>) -> Result<()> {
    let server_name = &spec.server.identity;

    report.begin(
        "Building the server and the client",
        "They are separate programs, as in production. The first build takes about two minutes.",
    )?;
    let mut programs = Programs::build(spec, directory).await?;

    report.begin(
        "Making a PKI",
        "Every program proves its identity with a certificate; three of these must be refused.",
    )?;
    let identities = spec.identities();
    let identities = identities.to_string_lossy();
    let init = ["init", "--ttl", "1h", "--identities", &identities];
    programs.pki(&init).await?;
    let callers = players(spec, &programs.certs, OffsetDateTime::now_utc())?;
    let identities = callers.len() - 1;
    report.say(&format!(
        "a root, an issuing CA, and {identities} identities"
    ))?;
    for (name, contents) in &spec.files {
        std::fs::write(directory.join(name), contents)?;
    }

    report.begin(
        "Starting the server as a process",
        "It needs its certificate, the root that it trusts, and a policy; without a rule, no call is allowed.",
    )?;
    let policy_file = spec.policy();
    let text = base::file::read(&policy_file, Policy::MAX_BYTES);
    let text = text.with_context(|| policy_file.display().to_string())?;
    let policy = Policy::parse(&text)?;
    let backends = programs.start_backends().await?;
    for (backend, server) in spec.backend.iter().zip(&backends) {
        let name = &backend.identity;
        report.say(&format!(
            "its backend {name} listens on {}",
            server.target()
        ))?;
    }
    let ServerSpec {
        program,
        identity,
        arguments,
    } = &spec.server;
    let starting = programs.start_server(program, identity, &policy_file, arguments);
    let mut server = starting.await?;
    report.say(&format!(
        "it listens on {}, under the policy {:?}",
        server.target(),
        policy.name()
    ))?;

    if let Some(prepare) = &spec.prepare {
        report.begin(
            &format!("Preparing, as {}", prepare.identity),
            "The calls need something to ask for.",
        )?;
        let said = programs.must_answer(&server, prepare).await?;
        report.say(said.trim())?;
    }

    report.begin(
        "Calling every RPC as each identity, each call a process",
        "The server must answer the callers that the policy allows, and no others.",
    )?;
    let table = CallTable {
        programs: &programs,
        server: &server,
        policy: &policy,
    };
    table.show(&callers, report).await?;

    let caller = &spec.rotation.identity;
    report.begin(
        &format!("Rotating the certificates of {server_name} and {caller}"),
        "Short-lived certificates are only practical if replacing them loses no call.",
    )?;
    let rotated = live::rotate(&programs, &mut server, report).await;
    report.or_surprise(rotated);

    if let Some(revocation) = &spec.revocation {
        report.begin(
            &format!("Revoking {} while it reads a stream", revocation.identity),
            "A stolen key must lose what it has open, not only its next connection.",
        )?;
        let revoked = live::revoke(&programs, &server, revocation, report).await;
        report.or_surprise(revoked);
    }

    report.begin(
        "Stopping the server",
        "It finishes the calls that are open, and exits with 0.",
    )?;
    for server in iter::once(server).chain(backends) {
        let stopped = server.stop().await;
        report.or_surprise(stopped);
    }
    Ok(())
}
