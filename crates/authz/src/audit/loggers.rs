//! The registry of audit loggers, and the three built-in loggers.
//!
//! They write events as JSON; they do not filter.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use crate::audit::event::{AuditEvent, AuditLogger};
use crate::events;

type Config = serde_json::Map<String, serde_json::Value>;
type Built = Result<Arc<dyn AuditLogger>, Box<dyn Error + Send + Sync>>;
type Build = dyn Fn(&Config) -> Built + Send + Sync;

/// The audit loggers that policies may name (gRFC A59's registry).
#[derive(Clone)]
pub struct Loggers {
    by_name: BTreeMap<String, Arc<Build>>,
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Loggers {
    /// The built-in loggers: those of every gRPC implementation, and ours.
    pub fn built_in() -> Self {
        let mut loggers = Self {
            by_name: BTreeMap::new(),
        };
        loggers.register("stdout_logger", |_ignored| Ok(Arc::new(StdoutLogger)));
        loggers.register("tracing_logger", |config| match config.is_empty() {
            true => Ok(Arc::new(TracingLogger)),
            false => Err("it has no configuration".into()),
        });
        loggers.register("file_logger", |config| {
            Ok(Arc::new(FileLogger::build(config)?))
        });
        loggers
    }

    /// Adds a logger, or replaces the one of the same name. `build` gets the `config` of the policy, and refuses it with
    /// an error that says what is expected.
    pub fn register(
        &mut self,
        name: &str,
        build: impl Fn(&Config) -> Built + Send + Sync + 'static,
    ) {
        self.by_name.insert(name.to_owned(), Arc::new(build));
    }

    pub(crate) fn build(&self, name: &str, config: &Config) -> Option<Built> {
        self.by_name.get(name).map(|build| build(config))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// One line of JSON, in the field names and the order of the other implementations' `stdout_logger`.
fn line(event: &AuditEvent) -> String {
    let left_out = match event.left_out {
        0 => String::new(),
        count => format!(r#","left_out":{count}"#),
    };
    let text = |value: &str| serde_json::Value::from(value).to_string();
    format!(
        concat!(
            r#"{{"grpc_audit_log":{{"timestamp":{},"rpc_method":{},"principal":{},"policy_name":{},"#,
            r#""matched_rule":{},"authorized":{},"decision_id":"{}"{}}}}}"#,
            "\n"
        ),
        text(&event.timestamp),
        text(&event.rpc_method),
        text(&event.principal),
        text(&event.policy_name),
        text(&event.matched_rule),
        event.authorized,
        event.decision_id,
        left_out
    )
}

/// `stdout_logger`: takes no configuration, and ignores one as the others do.
#[derive(Debug)]
struct StdoutLogger;

impl AuditLogger for StdoutLogger {
    fn log(&self, event: &AuditEvent) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(line(event).as_bytes())?;
        stdout.flush()
    }
}

/// `tracing_logger`: an event of target `grpc_audit_log` among the program's own.
#[derive(Debug)]
struct TracingLogger;

impl AuditLogger for TracingLogger {
    fn log(&self, event: &AuditEvent) -> io::Result<()> {
        let AuditEvent {
            timestamp,
            rpc_method,
            principal,
            policy_name,
            matched_rule,
            authorized,
            decision_id,
            left_out,
        } = event;
        if !tracing::enabled!(target: "grpc_audit_log", tracing::Level::INFO) {
            return Err(io::Error::other(
                "the log's level leaves grpc_audit_log out",
            ));
        }
        info!(
            target: "grpc_audit_log",
            timestamp, rpc_method, ?principal, ?policy_name, ?matched_rule, authorized, %decision_id,
            left_out = Some(*left_out).filter(|count| *count > 0),
            "{}", events::AUTHORIZATION
        );
        Ok(())
    }
}

/// `file_logger`: appends to the file `path`. It opens the file for each event, so that rotation needs no signal.
#[derive(Debug)]
struct FileLogger {
    path: PathBuf,
}

impl FileLogger {
    fn build(config: &Config) -> Result<Self, Box<dyn Error + Send + Sync>> {
        if let Some(unknown) = config.keys().find(|key| *key != "path") {
            return Err(format!("unknown field {unknown:?}; the field is path").into());
        }
        match config.get("path").and_then(serde_json::Value::as_str) {
            Some(path) if !path.is_empty() => Ok(Self { path: path.into() }),
            Some(_) | None => Err("path must be the name of a file".into()),
        }
    }
}

impl AuditLogger for FileLogger {
    fn log(&self, event: &AuditEvent) -> io::Result<()> {
        // One write of a whole line, so that several processes may share the file.
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?
            .write_all(line(event).as_bytes())
    }
}
