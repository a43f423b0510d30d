//! The commands of README.md, run in order as a reader pastes them, and what each prints.
//!
//! A block that begins with "```sh" is run; one that begins with "```sh exit=N" ends with that exit code. The "```text" block
//! after it has lines of its output, in order, with `…` for what varies. "```text watch" has those of the watch that was left
//! open. Only the place and the ports are the test's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use harness::world::{Ending, Log, command, repository};

struct Reader {
    /// What stands for the directory above the clone, which is in `countersign`.
    above: TempDir,
    /// What runs in terminals of its own.
    server: Option<(Ending, Log)>,
    watch: Option<(Ending, Log)>,
    port: u16,
    commands: usize,
}

/// What the commands of a block have left to compare.
#[derive(Default)]
struct Printed {
    text: String,
    running: Option<Log>,
}

#[test]
fn every_command_of_the_readme_prints_what_the_readme_says() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut reader = Reader::new();
    let mut printed = Printed::default();
    for (kind, lines) in blocks(&readme) {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| line.replace("localhost:50051", &format!("localhost:{}", reader.port)))
            .collect();
        let (language, note) = kind.split_once(' ').unwrap_or((kind, ""));
        match (language, note) {
            ("sh", note) => {
                let exit = note.strip_prefix("exit=").unwrap_or("0");
                printed = reader.run(&lines, exit.parse().unwrap());
            }
            ("text", "watch") => {
                let (_, log) = reader.watch.as_ref().unwrap();
                expect_in(log, &lines);
            }
            ("text", _) => match &printed.running {
                Some(log) => expect_in(log, &lines),
                None => expect(&printed.text, &lines),
            },
            _ => {
                let left_out = lines.iter().find(|line| line.starts_with("cargo "));
                assert_eq!(left_out, None, "a command in a block that is not run");
            }
        }
    }
    assert!(reader.commands >= 12, "{} commands", reader.commands);
    let made = reader.above.path().join("payments/Cargo.toml");
    assert!(made.is_file());
    reader.stop();
}

/// Each fenced block: what follows its fence, and its lines.
fn blocks(readme: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let content = lines.by_ref().take_while(|line| *line != "```");
            blocks.push((kind, content.collect()));
        }
    }
    blocks
}

impl Reader {
    /// In a directory with what of a clone the commands read.
    fn new() -> Self {
        let above = tempfile::tempdir().unwrap();
        let clone = above.path().join("countersign");
        fs::create_dir_all(clone.join("certs")).unwrap();
        let roster = repository().join("certs/dev.toml");
        fs::copy(roster, clone.join("certs/dev.toml")).unwrap();
        symlink(repository().join("crates"), clone.join("crates")).unwrap();
        Self {
            above,
            server: None,
            watch: None,
            port: 0,
            commands: 0,
        }
    }

    fn run(&mut self, lines: &[String], exit: i32) -> Printed {
        let mut printed = Printed::default();
        for line in lines {
            self.commands += 1;
            if line == "cargo test" {
                // This is a part of it.
                continue;
            }
            let (program, args) = program(line);
            let mut command = self.command(program, args);
            if args == "demo" {
                // It builds nothing, and is described in the repository.
                command.env_remove("CARGO").current_dir(repository());
            }
            match (program, args.split(' ').next()) {
                ("server", _) => {
                    command.stdout(Stdio::null()).stderr(Stdio::piped());
                    let server = left_open(command.spawn().unwrap());
                    let said = |line: &Value| line["message"] == "listening";
                    let address = server.1.wait(said)["address"].clone();
                    let (_, port) = address.as_str().unwrap().rsplit_once(':').unwrap();
                    self.port = port.parse().unwrap();
                    self.server = Some(server);
                }
                ("client", Some("watch")) => {
                    // Both outputs in one, as in a terminal.
                    let script = Command::new("sh")
                        .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
                        .arg(command.get_program())
                        .args(command.get_args())
                        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
                        .current_dir(command.get_current_dir().unwrap())
                        .stdin(Stdio::null())
                        .stdout(Stdio::piped())
                        .spawn();
                    let watch = left_open(script.unwrap());
                    printed.running = Some(watch.1.clone());
                    self.watch = Some(watch);
                }
                _ => {
                    let output = command.output().unwrap();
                    let said = [output.stdout, output.stderr].concat();
                    let said = String::from_utf8(said).unwrap();
                    assert_eq!(output.status.code(), Some(exit), "{line}\n{said}");
                    printed.text.push_str(&said);
                }
            }
        }
        printed
    }

    fn command(&self, program: &str, args: &str) -> Command {
        let mut command = command(program);
        command
            .args(args.split_whitespace())
            .current_dir(self.above.path().join("countersign"))
            .stdin(Stdio::null());
        match program {
            "server" => command
                .env("APP_LISTEN_ADDR", "127.0.0.1:0")
                .env("APP_ADMIN_ADDR", "127.0.0.1:0")
                .env("APP_LOG_FORMAT", "json"),
            "client" => command.env("APP_TARGET", format!("https://localhost:{}", self.port)),
            _ => &mut command,
        };
        command
    }

    /// As Ctrl-C does it.
    fn stop(self) {
        let (mut server, _) = self.server.unwrap();
        let interrupt = ["-INT", &server.0.id().to_string()];
        assert!(
            Command::new("kill")
                .args(interrupt)
                .status()
                .unwrap()
                .success()
        );
        assert!(server.0.wait().unwrap().success());
        let (mut watch, _) = self.watch.unwrap();
        assert_eq!(watch.0.wait().unwrap().code(), Some(77));
    }
}

/// The program that a line of the README runs, and its arguments.
fn program(line: &str) -> (&str, &str) {
    if line == "cargo demo" {
        return ("countersign", "demo");
    }
    if let Some(args) = line.strip_prefix("cargo cs ") {
        return ("countersign", args);
    }
    let Some(rest) = line.strip_prefix("cargo run --bin ") else {
        panic!("README.md has a command that this test does not know: {line}");
    };
    rest.split_once(" -- ").unwrap_or((rest, ""))
}

fn left_open(mut child: Child) -> (Ending, Log) {
    let log = match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), _) => Log::of(stdout),
        (None, stderr) => Log::of(stderr.unwrap()),
    };
    (Ending(child), log)
}

fn expect_in(log: &Log, lines: &[String]) {
    for line in lines {
        log.wait(|said| said.as_str().is_some_and(|said| is_as(said, line)));
    }
}

fn expect(text: &str, lines: &[String]) {
    let mut said = text.lines();
    for line in lines {
        assert!(
            said.any(|said| is_as(said, line)),
            "README.md says \"{line}\", which is not, or not in this order, in:\n{text}"
        );
    }
}

/// Whether a line is as the README shows it: `…` is anything, and so is the width of a gap.
fn is_as(said: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (said, line) = (words(said), words(line));
    let mut rest = said.as_str();
    for (number, part) in line.split('…').enumerate() {
        match rest.find(part) {
            Some(at) if at == 0 || number > 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || line.ends_with('…')
}
