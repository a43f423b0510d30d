//! The demo: two real processes, callers that are allowed, denied and refused, a rotation and a revocation.
//!
//! Uses the programs as an operator would, and judges what they do by the policy and nothing else. What it starts, it
//! ends, also when it is interrupted.

mod callers;
mod live;
mod programs;
mod spec;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use authz::Policy;
use time::OffsetDateTime;

use self::callers::players;
use self::programs::{Programs, Server};
use self::spec::Spec;
use self::table::{CellResult, Palette, Table};

/// Runs a server and its clients, and shows who may call what, a rotation and a revocation
///
/// demo.toml, or [package.metadata.demo] in Cargo.toml, says what it runs and calls.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// The description of the demo [default: demo.toml in this directory or the nearest above that has one]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Keep the directory with the PKI, the data and the server's log
    #[arg(long)]
    keep: bool,
}

/// What was not as expected.
type Surprises = Vec<String>;

/// What the summary says.
#[derive(Default)]
struct Figures {
    allowed: usize,
    denied: usize,
    refused: usize,
    calls_in_rotation: u64,
    revoked_after: Option<Duration>,
}

impl Figures {
    fn count(&mut self, expected: &CellResult) {
        match expected {
            CellResult::Allowed => self.allowed += 1,
            CellResult::Denied => self.denied += 1,
            CellResult::Refused | CellResult::Other(_) => self.refused += 1,
        }
    }
}

/// Shows everything, and says at the end whether all of it was as expected.
pub(crate) fn run(demo: &Demo, out: &mut impl Write) -> Result<ExitCode> {
    let spec = Spec::read(demo.file.as_deref())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let directory = tempfile::Builder::new()
        .prefix("countersign-demo-")
        .tempdir()?;
    let shown = runtime.block_on(async {
        let mut stop = countersign::program::stop_signal()?;
        tokio::select! {
            shown = show(&spec, directory.path(), out) => shown,
            () = stop.requested() => Err(anyhow!("interrupted; everything that was started is ended")),
        }
    });
    // Whatever still runs is killed with its handle.
    drop(runtime);
    if demo.keep {
        writeln!(out, "kept: {}", directory.keep().display())?;
    }
    let (surprises, figures, took) = shown?;
    for surprise in &surprises {
        writeln!(out, "SURPRISE: {surprise}")?;
    }
    if !surprises.is_empty() {
        return Ok(countersign::program::exit::FAILED.into());
    }
    let (allowed, denied, refused) = (figures.allowed, figures.denied, figures.refused);
    let (all, calls) = (allowed + denied + refused, figures.calls_in_rotation);
    let tool = countersign::program::tool();
    writeln!(
        out,
        "
All of it was as expected, in {took:.0?}:
  {all} calls: {allowed} answered, {denied} denied by the policy, {refused} refused for the certificate
  {calls} calls during the rotation, none failed"
    )?;
    if let Some(took) = figures.revoked_after {
        writeln!(out, "  a revoked caller's stream ended after {took:.1?}")?;
    }
    writeln!(
        out,
        "
Next:
  edit {}, and run this again: the table follows the policy
  `{tool} pki init` makes certificates for running the programs by hand; README.md has the commands
  `{tool} new NAME` makes a service of your own, with its own demo",
        spec.policy().display()
    )?;
    Ok(countersign::program::exit::OK)
}

async fn show(
    spec: &Spec,
    directory: &Path,
    out: &mut impl Write,
) -> Result<(Surprises, Figures, Duration)> {
    let began = Instant::now();
    let mut step = Steps {
        palette: Palette::of(&io::stdout()),
        out,
        began,
        done: 0,
        all: 6 + usize::from(spec.prepare.is_some()) + usize::from(spec.revocation.is_some()),
    };
    let mut figures = Figures::default();
    let server_name = &spec.server.identity;

    step.begin(
        "Building the server and the client",
        "They are separate programs, as in production. The first build takes about two minutes.",
    )?;
    let programs = Programs::build(spec, directory).await?;

    step.begin(
        "Making a PKI",
        "Every program proves its identity with a certificate; three of these must be refused.",
    )?;
    let pki = directory.join("certs");
    let identities = spec.identities();
    let identities = identities.to_string_lossy();
    programs
        .pki(&pki, &["init", "--ttl", "1h", "--identities", &identities])
        .await?;
    let callers = players(spec, &pki, OffsetDateTime::now_utc())?;
    let identities = callers.len() - 1;
    step.say(&format!(
        "a root, an issuing CA, and {identities} identities"
    ))?;
    for (name, contents) in &spec.files {
        std::fs::write(directory.join(name), contents)?;
    }

    step.begin(
        "Starting the server as a process",
        "It needs its certificate, the root that it trusts, and a policy; without a rule, no call is allowed.",
    )?;
    let policy_file = spec.policy();
    let text = base::file::read(&policy_file, Policy::MAX_BYTES);
    let text = text.with_context(|| policy_file.display().to_string())?;
    let policy = Policy::parse(&text)?;
    let mut server = Server::start(&programs, &pki.join(server_name), &policy_file).await?;
    step.say(&format!(
        "it listens on {}, under the policy {:?}",
        server.target(),
        policy.name()
    ))?;

    if let Some(prepare) = &spec.prepare {
        step.begin(
            &format!("Preparing, as {}", prepare.identity),
            "The calls need something to ask for.",
        )?;
        let said = programs.must_answer(&server, &pki, prepare).await?;
        step.say(said.trim())?;
    }

    step.begin(
        "Calling every RPC as each identity, each call a process",
        "The server must answer the callers that the policy allows, and no others.",
    )?;
    let table = Table {
        programs: &programs,
        server: &server,
        policy: &policy,
    };
    let mut surprises = table
        .show(&callers, step.palette, step.out, &mut figures)
        .await?;

    let caller = &spec.rotation.identity;
    step.begin(
        &format!("Rotating the certificates of {server_name} and {caller}"),
        "Short-lived certificates are only practical if replacing them loses no call.",
    )?;
    surprises.extend(or_surprise(
        live::rotate(&programs, &mut server, &pki, &mut step, &mut figures).await,
    ));

    if let Some(revocation) = &spec.revocation {
        step.begin(
            &format!("Revoking {} while it reads a stream", revocation.identity),
            "A stolen key must lose what it has open, not only its next connection.",
        )?;
        let (step, figures) = (&mut step, &mut figures);
        surprises.extend(or_surprise(
            live::revoke(&programs, &mut server, &pki, step, figures, revocation).await,
        ));
    }

    step.begin(
        "Stopping the server",
        "It finishes the calls that are open, and exits with 0.",
    )?;
    surprises.extend(server.stop().await?);
    Ok((surprises, figures, began.elapsed()))
}

/// A step that could not be taken is one more surprise, so that those before it are shown too.
fn or_surprise(step: Result<Surprises>) -> Surprises {
    step.unwrap_or_else(|error| vec![format!("{error:#}")])
}

/// Says what is done before it is done, because it takes a while.
struct Steps<'a, W> {
    palette: Palette,
    out: &'a mut W,
    began: Instant,
    done: usize,
    all: usize,
}

impl<W: Write> Steps<'_, W> {
    fn begin(&mut self, what: &str, why: &str) -> io::Result<()> {
        self.done += 1;
        let (bold, plain) = self.palette.paint("\x1b[1m");
        let (done, all) = (self.done, self.all);
        let elapsed = self.began.elapsed().as_secs_f64();
        writeln!(
            self.out,
            "\n{bold}[{done}/{all}] {what}{plain} ({elapsed:.1} s)"
        )?;
        writeln!(self.out, "  {why}")?;
        self.out.flush()
    }

    fn say(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.out, "  {what}")?;
        self.out.flush()
    }
}

impl Palette {
    /// Colour on a terminal, unless <https://no-color.org> asks for none.
    fn of(stream: &impl IsTerminal) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let in_colour = wanted && stream.is_terminal();
        Self { in_colour }
    }
}
