//! The programs as processes: built, found, started, listened to, and ended with their handle.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::spec::{BackendSpec, CallAs, Spec};
use crate::pki::IdentityName;

/// How long a program may take to say what is expected of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon changed certificates are seen.
const RELOAD: &str = "100ms";

/// Where the programs are, and how they are used.
pub(super) struct Programs<'a> {
    pub(super) spec: &'a Spec,
    /// Where the programs are.
    binaries: PathBuf,
    tool: PathBuf,
    /// The demo's own.
    directory: &'a Path,
    /// Its PKI.
    pub(super) certs: PathBuf,
    /// What stands in arguments for the directory of the demo, and for the URL of each backend.
    placeholders: Vec<(String, String)>,
}

/// What a program did, from start to end.
pub(super) struct Finished {
    /// `None` when a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The error that a client in JSON mode wrote, if it wrote one.
    pub(super) fn error(&self) -> Option<Value> {
        let mut lines = self.stderr.lines().rev();
        lines.find_map(|line| {
            let mut line = serde_json::from_str::<Value>(line).ok()?;
            line.get_mut("error").map(Value::take)
        })
    }
}

impl<'a> Programs<'a> {
    /// Finds the programs beside this one. Under cargo they are built first, like this one, and cargo shows how far it
    /// is.
    pub(super) async fn build(spec: &'a Spec, directory: &'a Path) -> Result<Self> {
        let tool = std::env::current_exe()?;
        let beside = tool.parent().unwrap_or(Path::new("."));
        // An example is in a directory of its own.
        let example = beside.ends_with("examples");
        let beside = match beside.parent() {
            Some(above) if example => above,
            Some(_) | None => beside,
        };
        let backends = spec.backend.iter().map(|backend| &backend.program);
        let own = [&spec.server.program, &spec.client.program];
        let all: Vec<_> = backends.chain(own).collect();
        let names: Vec<_> = all.iter().copied().filter(|name| !is_path(name)).collect();
        let binaries = match std::env::var_os("CARGO") {
            // Where cargo puts them is asked of cargo, since this program may be an installed one.
            Some(cargo) if !names.is_empty() => {
                let release = beside.ends_with("release").then_some("--release");
                // With the examples their dependencies have the features that they had for this one, and are not built
                // again.
                let example = example.then_some("--examples");
                let flags = release.into_iter().chain(example);
                build(&cargo, spec, &names, flags).await?
            }
            Some(_) | None => beside.to_owned(),
        };
        let programs = Self {
            spec,
            binaries,
            tool,
            directory,
            certs: directory.join("certs"),
            placeholders: vec![("{dir}".to_owned(), directory.display().to_string())],
        };
        for name in all {
            let path = programs.path(name);
            let remedy = match is_path(name) {
                true => "build it first",
                false => "run the demo by cargo, which builds it",
            };
            ensure!(path.is_file(), "there is no {}; {remedy}", path.display());
        }
        Ok(programs)
    }

    fn path(&self, name: &str) -> PathBuf {
        match is_path(name) {
            true => self.spec.base.join(name),
            false => self
                .binaries
                .join(name)
                .with_extension(std::env::consts::EXE_EXTENSION),
        }
    }

    /// The arguments, with what the placeholders stand for.
    fn arguments(&self, of: &[String]) -> impl Iterator<Item = String> {
        of.iter().map(|argument| {
            let replace = |text: String, (from, to): &(String, String)| text.replace(from, to);
            self.placeholders.iter().fold(argument.clone(), replace)
        })
    }

    /// Starts the servers that the server calls.
    pub(super) async fn start_backends(&mut self) -> Result<Vec<ServerProcess>> {
        let mut started = Vec::new();
        let spec = self.spec;
        for backend in &spec.backend {
            let BackendSpec {
                program,
                identity,
                policy,
                arguments,
            } = backend;
            let policy = spec.base.join(policy);
            let server = self
                .start_server(program, identity, &policy, arguments)
                .await;
            let server = server.with_context(|| format!("the backend {identity}"))?;
            let placeholder = format!("{{{identity}}}");
            self.placeholders
                .push((placeholder, server.target().to_owned()));
            started.push(server);
        }
        Ok(started)
    }

    /// Starts a server, and waits until it listens. Its log is in the directory of the demo, under its identity.
    pub(super) async fn start_server(
        &self,
        program: &str,
        identity: &str,
        policy: &Path,
        arguments: &[String],
    ) -> Result<ServerProcess> {
        let mut command = self.command(&self.path(program));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "off"]);
        command.args(["--log-format", "json", "--tls-reload-interval", RELOAD]);
        command.arg("--tls-dir").arg(self.certs.join(identity));
        command.arg("--policy").arg(policy);
        for argument in self.arguments(arguments) {
            ensure!(
                !is_placeholder(&argument),
                "nothing stands for {argument} in its arguments; a backend above it must have that identity"
            );
            command.arg(argument);
        }
        let file = |end: &str| self.directory.join(format!("{identity}{end}"));
        let audit = std::fs::File::create(file("-audit.jsonl"))?;
        let log = tokio::fs::File::create(file(".log")).await?;
        ServerProcess::listening(command.stdout(audit).stderr(Stdio::piped()).spawn()?, log).await
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.spec.base);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("APP_") {
                command.env_remove(name);
            }
        }
        command
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs `countersign pki`, which must succeed.
    pub(super) async fn pki(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(&self.tool);
        command.arg("pki").args(arguments);
        command.arg("--dir").arg(&self.certs);
        let done = Finished::of(&command.output().await?);
        let (command, said) = (arguments.join(" "), done.stderr.trim());
        ensure!(done.code == Some(0), "`pki {command}` failed: {said}");
        Ok(())
    }

    fn client_command(
        &self,
        server: &ServerProcess,
        credentials: &Path,
        arguments: &[String],
    ) -> Command {
        let client = &self.spec.client;
        let mut command = self.command(&self.path(&client.program));
        command
            .args(["--target", server.target(), "--tls-reload-interval", RELOAD])
            .arg("--tls-dir")
            .arg(credentials)
            .args(self.arguments(&client.arguments))
            .args(self.arguments(arguments));
        command
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the client to its end.
    pub(super) async fn client(
        &self,
        server: &ServerProcess,
        credentials: &Path,
        arguments: &[String],
    ) -> Result<Finished> {
        let mut client = self.client_command(server, credentials, arguments);
        let output = timeout(PATIENCE, client.output()).await;
        let late = || format!("the client does not end: {arguments:?}");
        Ok(Finished::of(&output.with_context(late)??))
    }

    /// Makes a call that what comes after it needs, and gives what the client printed.
    pub(super) async fn must_answer(
        &self,
        server: &ServerProcess,
        call: &CallAs,
    ) -> Result<String> {
        let credentials = self.certs.join(&call.identity);
        let done = self.client(server, &credentials, &call.arguments).await?;
        let (command, said) = (call.arguments.join(" "), done.stderr.trim());
        ensure!(done.code == Some(0), "`{command}` failed: {said}");
        Ok(done.stdout)
    }

    /// Starts a client that goes on.
    pub(super) fn start_client(
        &self,
        server: &ServerProcess,
        identity: &str,
        arguments: &[String],
    ) -> Result<Running> {
        let mut client = self.client_command(server, &self.certs.join(identity), arguments);
        let mut child = client.spawn()?;
        let stdout = child.stdout.take().context("the client has no output")?;
        Ok(Running {
            lines: BufReader::new(stdout).lines(),
            child,
        })
    }
}

/// Whether an argument is a placeholder that nothing has replaced.
fn is_placeholder(argument: &str) -> bool {
    let name = argument
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| name.parse::<IdentityName>().is_ok())
}

/// Whether a program is named by its path, so that it is not cargo's to build.
fn is_path(program: &str) -> bool {
    program.contains('/')
}

/// Builds the programs, and says where cargo put them.
async fn build(
    cargo: &OsStr,
    spec: &Spec,
    names: &[&String],
    flags: impl Iterator<Item = &str>,
) -> Result<PathBuf> {
    const FAILED: &str = "cargo could not build the programs of the demo";
    let mut build = Command::new(cargo);
    build
        .args(["build", "--message-format=json-render-diagnostics"])
        .args(names.iter().flat_map(|name| ["--bin", name]))
        .args(flags)
        .current_dir(&spec.base)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // Not by `output()`, which would keep what cargo says of its progress.
    let output = build.spawn()?.wait_with_output().await?;
    ensure!(output.status.success(), FAILED);
    let made = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| names.iter().any(|name| line["target"]["name"] == **name))
        .find_map(|line| line["executable"].as_str().map(PathBuf::from));
    let made = made.context(FAILED)?;
    Ok(made.parent().unwrap_or(Path::new(".")).to_owned())
}

/// A client that runs.
pub(super) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line that it writes, or `None` at its end.
    pub(super) async fn line(&mut self) -> Result<Option<String>> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        Ok(line.context("the client of a stream printed no line in time; the stream must send a message when it is opened")??)
    }

    /// Reads on in the background, so that what comes later is not mistaken for what was sent before.
    pub(super) fn follow(self) -> Followed {
        let Self { child, mut lines } = self;
        let (tell, lines_so_far) = watch::channel(0_u64);
        tokio::spawn(async move {
            while let Ok(Some(_)) = lines.next_line().await {
                tell.send_modify(|lines| *lines += 1);
            }
        });
        Followed {
            _child: child,
            lines: lines_so_far,
        }
    }

    pub(super) async fn end(mut self) -> Result<Finished> {
        let mut stdout = String::new();
        while let Some(line) = self.line().await? {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let output = timeout(PATIENCE, self.child.wait_with_output()).await;
        let output = output.context("the client does not end")??;
        Ok(Finished {
            stdout,
            ..Finished::of(&output)
        })
    }
}

/// A client whose lines are counted.
pub(super) struct Followed {
    /// Killed when it is dropped.
    _child: Child,
    lines: watch::Receiver<u64>,
}

impl Followed {
    /// Only lines from now on count for [`Self::goes_on`].
    pub(super) fn forget(&mut self) {
        self.lines.mark_unchanged();
    }

    /// Whether the client writes one more line.
    pub(super) async fn goes_on(&mut self) -> bool {
        matches!(timeout(PATIENCE, self.lines.changed()).await, Ok(Ok(())))
    }
}

/// The server as a process, and what it logs.
pub(super) struct ServerProcess {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    log_file: tokio::fs::File,
    target: String,
}

impl ServerProcess {
    /// Waits until a server that was started says where it listens.
    async fn listening(mut child: Child, log_file: tokio::fs::File) -> Result<Self> {
        let log = child.stderr.take().context("the server has no log")?;
        let mut server = Self {
            child,
            log: BufReader::new(log).lines(),
            log_file,
            target: String::new(),
        };
        let listening = { server.wait_for(|line| line["message"] == "listening") }.await?;
        let address = listening["address"].as_str();
        let address: Option<SocketAddr> = address.and_then(|address| address.parse().ok());
        let address = address.context("the server does not say where it listens")?;
        server.target = format!("https://localhost:{}", address.port());
        Ok(server)
    }

    /// Where it is, for the client.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Waits for a line of the log. Lines before it are gone then; all of them are in the file.
    pub(super) async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let search = async {
            while let Some(line) = self.log.next_line().await? {
                let written = format!("{line}\n");
                self.log_file.write_all(written.as_bytes()).await?;
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if wanted(&line) {
                    return Ok(line);
                }
                if let Value::String(mut reason) = line {
                    // Not a log line: the server says why it does not start, in one line or more.
                    while let Some(more) = self.log.next_line().await? {
                        reason = reason + "\n" + &more;
                    }
                    bail!("the server says: {}", reason.trim_end());
                }
            }
            bail!("the server ended")
        };
        let found = timeout(PATIENCE, search).await;
        found.context("the server does not say what it should")?
    }

    /// Stops it as an orchestrator would, and waits until it has drained.
    pub(super) async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("the server had ended before")?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("kill -TERM {id}")]);
        shell.kill_on_drop(true).status().await?;
        const DRAINED: &str = "stopped: every call was finished";
        let drained = self.wait_for(|line| line["message"] == DRAINED).await;
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.context("the server does not end")??;
        ensure!(
            status.success() && drained.is_ok(),
            "the server did not end cleanly: {status}"
        );
        Ok(())
    }
}
