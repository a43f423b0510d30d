//! What our server costs beside a stock tonic server: processor time for each call and each handshake, memory for each
//! idle connection. Fresh processes in turn, so that what else the machine does falls on both.

mod load;
mod scale;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use load::Caller;
use tokio::process::{Child, Command};

/// Where the tables stand in docs/performance.md.
const TABLE: (&str, &str) = ("<!-- bench -->\n", "<!-- /bench -->");
const SCALE: (&str, &str) = ("<!-- scale -->\n", "<!-- /scale -->");

#[derive(Parser)]
struct Args {
    /// Directory of the release programs `server` and `countersign`
    #[arg(long)]
    bin: PathBuf,
    /// How often each figure is taken of each server
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a load lasts, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Take only the figures whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// Count instructions too, with valgrind
    #[arg(long)]
    instructions: bool,
    /// Take the figures of many connections, streams and revoked certificates instead
    #[arg(long)]
    scale: bool,
    /// Write the table into this file, between its marks
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
enum Subject {
    Stock,
    Ours,
    /// With a call logged that went well, too.
    OursLoggingAll,
    /// With a revocation list in force.
    OursWithList,
}

#[derive(Clone, Copy)]
enum Figure {
    Call,
    OneStream,
    Handshake,
    Idle,
}

struct Row {
    what: &'static str,
    figure: Figure,
    subject: Subject,
}

const ROWS: [Row; 6] = [
    Row {
        what: "a call, 4 connections of 16 streams",
        figure: Figure::Call,
        subject: Subject::Ours,
    },
    Row {
        what: "the same, every call logged",
        figure: Figure::Call,
        subject: Subject::OursLoggingAll,
    },
    Row {
        what: "a call, 1 connection of 1 stream",
        figure: Figure::OneStream,
        subject: Subject::Ours,
    },
    Row {
        what: "a handshake and a call",
        figure: Figure::Handshake,
        subject: Subject::Ours,
    },
    Row {
        what: "the same, with a revocation list",
        figure: Figure::Handshake,
        subject: Subject::OursWithList,
    },
    Row {
        what: "an idle connection (memory)",
        figure: Figure::Idle,
        subject: Subject::Ours,
    },
];

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let lab = Lab::new(&args)?;
    let (marks, table) = match args.scale {
        true => (SCALE, scale::table(&lab).await?),
        false => (TABLE, ratios(&lab, &args).await?),
    };
    print!("{table}");
    if let Some(path) = &args.write {
        let text = std::fs::read_to_string(path)?;
        let (head, rest) = text
            .split_once(marks.0)
            .context("the file has no mark for the table")?;
        let (_, tail) = rest
            .split_once(marks.1)
            .context("the file has no mark for the table's end")?;
        std::fs::write(path, format!("{head}{}{table}{}{tail}", marks.0, marks.1))?;
    }
    Ok(())
}

/// What one operation costs, as a ratio to stock tonic, as Markdown.
async fn ratios(lab: &Lab, args: &Args) -> Result<String> {
    let mut table = String::from("| | to stock tonic | least | most |\n|---|---|---|---|\n");
    for Row {
        what,
        figure,
        subject,
    } in ROWS
    {
        if !what.contains(&args.only) {
            continue;
        }
        let mut ratios = Vec::new();
        for round in 1..=args.rounds {
            let stock = lab.measure(Subject::Stock, figure).await?;
            let ours = lab.measure(subject, figure).await?;
            eprintln!(
                "{what}, round {round}: stock {stock:.2}, ours {ours:.2}, ratio {:.2}",
                ours / stock
            );
            ratios.push(ours / stock);
        }
        ratios.sort_by(f64::total_cmp);
        let at = |index: usize| ratios.get(index).copied().unwrap_or(f64::NAN);
        writeln!(
            table,
            "| {what} | {:.2} | {:.2} | {:.2} |",
            at(ratios.len() / 2),
            at(0),
            at(ratios.len() - 1)
        )?;
    }
    if args.instructions {
        let (stock, ours) = (
            lab.instructions(Subject::Stock).await?,
            lab.instructions(Subject::Ours).await?,
        );
        writeln!(
            table,
            "| instructions of a call ({stock} and {ours}) | {:.2} | | |",
            ours as f64 / stock as f64
        )?;
    }
    Ok(table)
}

/// Certificates, a policy, and where the programs are.
struct Lab {
    dir: PathBuf,
    bin: PathBuf,
    time: Duration,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is left is under the directory for temporary files.
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

impl Lab {
    fn new(args: &Args) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("countersign-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let lab = Self {
            dir,
            bin: args.bin.clone(),
            time: Duration::from_secs_f64(args.seconds),
        };
        let certs = lab.dir.join("certs");
        let made = std::process::Command::new(lab.bin.join("countersign"))
            .args(["pki", "init", "--dir"])
            .arg(&certs)
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "countersign pki init failed");
        let listed = lab.dir.join("listed");
        std::fs::create_dir_all(&listed)?;
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            std::fs::copy(certs.join("inventory").join(file), listed.join(file))?;
        }
        // A list has to name somebody; marketing calls nobody here.
        std::fs::write(listed.join("crl.pem"), lab.revoke("marketing")?)?;
        Ok(lab)
    }

    /// The revocation list that names this identity too. No server has it yet.
    fn revoke(&self, name: &str) -> Result<String> {
        let certs = self.dir.join("certs");
        let revoked = std::process::Command::new(self.bin.join("countersign"))
            .args(["pki", "revoke", name, "--dir"])
            .arg(&certs)
            .stdout(Stdio::null())
            .status()?;
        ensure!(revoked.success(), "countersign pki revoke failed");
        let file = certs.join("inventory/crl.pem");
        let list = read(&file)?;
        std::fs::remove_file(file)?;
        Ok(list)
    }

    /// How many times the server that runs has taken new credentials into use.
    fn taken(&self) -> Result<usize> {
        Ok(read(&self.dir.join("log"))?
            .matches("\"credentials in use\"")
            .count())
    }

    fn command(&self, subject: Subject, address: &str, flags: &[&str]) -> Vec<std::ffi::OsString> {
        let own = std::env::current_exe().unwrap_or_default();
        let certs = self.dir.join("certs/inventory");
        if subject == Subject::Stock {
            return vec![
                own.with_file_name("stock").into(),
                address.into(),
                certs.into(),
            ];
        }
        let tls = if subject == Subject::OursWithList {
            self.dir.join("listed")
        } else {
            certs
        };
        let mut command: Vec<std::ffi::OsString> = vec![
            self.bin.join("server").into(),
            "--listen".into(),
            address.into(),
            "--admin-listen".into(),
            "off".into(),
            "--tls-dir".into(),
            tls.into(),
            "--data".into(),
            self.dir.join("data.redb").into(),
            "--max-connections".into(),
            "19000".into(),
            "--max-connections-per-peer".into(),
            "19000".into(),
            "--max-unauthenticated-per-ip".into(),
            "256".into(),
        ];
        if subject == Subject::OursLoggingAll {
            command.extend(["--log-calls".into(), "all".into()]);
        }
        command.extend(flags.iter().map(Into::into));
        command
    }

    async fn start(&self, subject: Subject) -> Result<(Child, Caller)> {
        self.start_with(&[], subject, &[]).await
    }

    async fn start_with(
        &self,
        before: &[&str],
        subject: Subject,
        flags: &[&str],
    ) -> Result<(Child, Caller)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let address = format!("127.0.0.1:{port}");
        let mut words = before
            .iter()
            .map(Into::into)
            .collect::<Vec<std::ffi::OsString>>();
        words.extend(self.command(subject, &address, flags));
        let program = words.remove(0);
        let log = std::fs::File::create(self.dir.join("log"))?;
        let child = Command::new(&program)
            .args(words)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.to_string_lossy().into_owned())?;
        let caller = Caller::new(&address, &self.dir.join("certs/orders"))?;
        caller.ready().await?;
        Ok((child, caller))
    }

    /// Microseconds of processor time, or KiB, for one operation.
    async fn measure(&self, subject: Subject, figure: Figure) -> Result<f64> {
        let (mut child, caller) = self.start(subject).await?;
        let id = child.id().context("the server ended")?;
        let (cpu, memory) = (cpu_micros(id)?, memory_kib(id)?);
        let value = match figure {
            Figure::Call => {
                let done = caller.calls(4, 16, self.time).await?;
                (cpu_micros(id)? - cpu) / done as f64
            }
            Figure::OneStream => {
                let done = caller.calls(1, 1, self.time).await?;
                (cpu_micros(id)? - cpu) / done as f64
            }
            Figure::Handshake => {
                let done = caller.handshakes(8, self.time).await?;
                (cpu_micros(id)? - cpu) / done as f64
            }
            Figure::Idle => {
                const COUNT: usize = 500;
                let _idle = caller.idle(COUNT).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                (memory_kib(id)? - memory) / COUNT as f64
            }
        };
        child.kill().await?;
        Ok(value)
    }

    /// User-mode instructions of one call: the difference of two runs, so that the start does not count.
    async fn instructions(&self, subject: Subject) -> Result<u64> {
        const FEW: u64 = 200;
        const MANY: u64 = 1_200;
        let mut totals = Vec::new();
        for calls in [FEW, MANY] {
            let valgrind = [
                "valgrind",
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
            ];
            let (mut child, caller) = self.start_with(&valgrind, subject, &[]).await?;
            caller.some_calls(calls).await?;
            let id = child.id().context("the server ended")?.to_string();
            Command::new("kill").args(["-TERM", &id]).status().await?;
            child.wait().await?;
            let log = std::fs::read_to_string(self.dir.join("log"))?;
            let collected = log
                .lines()
                .find_map(|line| line.split_once("Collected : "))
                .context("valgrind counted nothing")?;
            totals.push(collected.1.trim().parse::<u64>()?);
        }
        Ok((totals[1] - totals[0]) / (MANY - FEW))
    }
}

/// Processor time of all threads so far.
fn cpu_micros(id: u32) -> Result<f64> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let text = read(&task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanos as f64 / 1e3)
}

fn memory_kib(id: u32) -> Result<f64> {
    let status = read(Path::new(&format!("/proc/{id}/status")))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line
        .split_ascii_whitespace()
        .nth(1)
        .unwrap_or_default()
        .parse()?)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
