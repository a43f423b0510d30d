//! The whole of it in one run: two real processes, everybody who may and may not, a rotation and a revocation.
//!
//! Uses the programs as an operator would, and judges what they do by the policy and nothing else. What it starts, it
//! ends, also when it is interrupted.

mod callers;
mod live;
mod programs;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use authz::Policy;
use time::OffsetDateTime;

use self::callers::Callers;
use self::programs::{Programs, Server};
use self::table::{Style, Table};
use crate::pki::{DirectoryError, IssueError};

const POLICY: &str = include_str!("../../../server/policy.json");
const ITEMS: &str = include_str!("../../../client/data/items.csv");

/// Runs a server and its callers, shows who may call what, rotates and revokes, and ends
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Keep the directory with the PKI, the policy, the data and the server's log
    #[arg(long)]
    keep: bool,
}

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A program could not be built, found or started, or said something else than it should.
    #[error("{0}")]
    Program(String),
    /// The PKI could not be added to.
    #[error(transparent)]
    Pki(#[from] DirectoryError),
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A part of the demo's own data is not usable.
    #[error("{0}")]
    Data(String),
    /// A signal came.
    #[error("interrupted; everything that was started is ended")]
    Interrupted,
}

/// What was not as expected.
type Surprises = Vec<String>;

/// Shows everything, and says at the end whether all of it was as expected.
///
/// # Errors
/// [`DemoError`] when it could not be shown to its end.
pub fn run(demo: &Demo, out: &mut impl Write) -> Result<ExitCode, DemoError> {
    let runtime = tokio::runtime::Runtime::new()?;
    let directory = tempfile::Builder::new()
        .prefix("countersign-demo-")
        .tempdir()?;
    let shown = runtime.block_on(async {
        let mut stop = countersign::program::stop_signal()?;
        tokio::select! {
            shown = show(directory.path(), out) => shown,
            () = stop.requested() => Err(DemoError::Interrupted),
        }
    });
    // Whatever still runs is killed with its handle.
    drop(runtime);
    if demo.keep {
        writeln!(out, "kept: {}", directory.keep().display())?;
    }
    let surprises = shown?;
    for surprise in &surprises {
        writeln!(out, "SURPRISE: {surprise}")?;
    }
    if surprises.is_empty() {
        writeln!(out, "\nAll of it was as expected.")?;
        return Ok(countersign::program::exit::OK);
    }
    Ok(countersign::program::exit::FAILED.into())
}

async fn show(directory: &Path, out: &mut impl Write) -> Result<Surprises, DemoError> {
    let style = Style::of(&io::stdout());
    let mut step = Steps { style, out };

    step.begin("Building the server and the client")?;
    let programs = Programs::build().await?;

    step.begin("Making a PKI: a root, an issuing CA, the server and six callers, and three that must not get in")?;
    let pki = directory.join("certs");
    programs.pki(&pki, &["init", "--ttl", "1h"]).await?;
    let callers = Callers::new(&pki, OffsetDateTime::now_utc())?;

    step.begin("Starting the server, as a process of its own")?;
    let policy_file = directory.join("policy.json");
    std::fs::write(&policy_file, POLICY)?;
    let policy = Policy::parse(POLICY.as_bytes()).map_err(data)?;
    let mut server =
        Server::start(&programs, directory, &pki.join("inventory"), &policy_file).await?;
    step.say(&format!(
        "it listens on {}, under the policy {:?}",
        server.target(),
        policy.name()
    ))?;

    step.begin("Importing the items of a CSV file, as catalog")?;
    let items = directory.join("items.csv");
    std::fs::write(&items, ITEMS)?;
    let imported = programs
        .client(
            &server,
            &pki.join("catalog"),
            &["import", &items.to_string_lossy()],
        )
        .await?;
    if imported.code != Some(0) {
        return Err(DemoError::Program(format!(
            "the import failed: {}",
            imported.stderr
        )));
    }
    step.say(imported.stdout.trim())?;

    step.begin("Calling every RPC as everybody, each call a process of its own")?;
    let table = Table {
        programs: &programs,
        server: &server,
        policy: &policy,
        directory,
    };
    let mut surprises = table.show(&callers, step.style, step.out).await?;

    step.begin("Rotating the certificates of both sides, with calls under way")?;
    surprises.extend(live::rotate(&programs, &mut server, &pki, &mut step).await?);

    step.begin("Revoking auditor, with streams open")?;
    surprises.extend(live::revoke(&programs, &mut server, &pki, &mut step).await?);

    step.begin("Stopping the server")?;
    surprises.extend(server.stop().await?);
    Ok(surprises)
}

fn data(error: impl std::fmt::Display) -> DemoError {
    DemoError::Data(error.to_string())
}

/// Says what is done before it is done, because it takes a while.
struct Steps<'a, W> {
    style: Style,
    out: &'a mut W,
}

impl<W: Write> Steps<'_, W> {
    fn begin(&mut self, what: &str) -> io::Result<()> {
        let (bold, plain) = self.style.bold();
        writeln!(self.out, "\n{bold}{what}{plain}")?;
        self.out.flush()
    }

    fn say(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.out, "  {what}")?;
        self.out.flush()
    }
}

impl Style {
    /// Colour on a terminal, unless <https://no-color.org> asks for none.
    fn of(stream: &impl IsTerminal) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && stream.is_terminal() {
            Self::Colour
        } else {
            Self::Plain
        }
    }
}
