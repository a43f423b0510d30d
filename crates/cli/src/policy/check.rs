//! `policy check`: what is probably wrong with a valid policy.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use authz::{Api, Loggers, Severity};
use clap::Args;
use serde::Serialize;

use super::input::{self, ApiChoice};
use crate::OutputFormat;
use crate::text::Printable;

/// Check that a policy is valid, and report likely mistakes in it.
///
/// An invalid policy exits with 64. A valid one is also checked against an API: a rule for an RPC that does not exist
/// is an error (exit code 1), and an RPC without a rule is a warning.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The policy.
    file: PathBuf,
    /// The API: a .proto FILE or a directory of them, to which health and reflection are added; a descriptor set FILE
    /// (protoc --include_imports --descriptor_set_out=FILE); "builtin" for the services of the repository that this
    /// tool was built in; or "none" to check by A43 alone, where every finding is a warning [default: the directory
    /// proto of this package; or else builtin, if there is one; or else none]
    #[arg(long, value_name = "FILE|DIR|builtin|none")]
    api: Option<ApiChoice>,
    /// Treats warnings as errors.
    #[arg(long)]
    strict: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Serialize)]
struct Checked<'a> {
    policy: &'a str,
    /// What it was checked against: `builtin`, `none` or the file.
    api: String,
    /// The services of that API.
    services: BTreeSet<String>,
    /// How many RPCs they have; null without an API.
    rpcs: Option<usize>,
    ok: bool,
    findings: Vec<Counted<'a>>,
}

/// A finding, as an error or a warning.
#[derive(Serialize)]
struct Counted<'a> {
    severity: &'static str,
    line: u32,
    pointer: &'a str,
    code: &'static str,
    message: &'a str,
}

impl Check {
    /// Whether there is nothing that counts against the policy.
    pub(super) fn run(&self, loggers: &Loggers, out: &mut dyn Write) -> Result<bool> {
        let policy = input::policy(&self.file, loggers)?;
        let choice = ApiChoice::or_default(self.api.as_ref());
        let api = input::api(&choice)?;
        let (found, error) = match &api {
            Some(api) => (authz::check(&policy, api), "error"),
            // What A43 allows may be intended, as long as the API is not known.
            None => (authz::lint(&policy), "warning"),
        };
        let findings = found
            .iter()
            .map(|found| Counted {
                severity: match found.severity {
                    Severity::Error | Severity::Warning if self.strict => "error",
                    Severity::Error => error,
                    Severity::Warning => "warning",
                },
                line: found.line,
                pointer: &found.pointer,
                code: found.code,
                message: &found.message,
            })
            .collect::<Vec<_>>();
        let ok = findings.iter().all(|finding| finding.severity != "error");
        let checked = Checked {
            policy: policy.name(),
            api: choice.to_string(),
            services: api.iter().flat_map(Api::paths).map(service).collect(),
            rpcs: api.as_ref().map(|api| api.paths().count()),
            ok,
            findings,
        };
        let text = |out: &mut dyn Write| checked.write(&self.file, out);
        self.output.write(&checked, out, text)?;
        Ok(ok)
    }
}

impl Checked<'_> {
    fn write(&self, file: &Path, out: &mut dyn Write) -> io::Result<()> {
        let file = Printable(file.display());
        for finding in &self.findings {
            let Counted {
                severity,
                line,
                code,
                ..
            } = finding;
            let (pointer, message) = (Printable(finding.pointer), Printable(finding.message));
            writeln!(
                out,
                "{file}:{line}: {severity}: {pointer}: {message} [{code}]"
            )?;
        }
        let against = match self.rpcs {
            Some(rpcs) => {
                let services: Vec<_> = self.services.iter().map(String::as_str).collect();
                format!("{} ({rpcs} RPCs of {})", self.api, services.join(", "))
            }
            None => "no API".to_owned(),
        };
        let (policy, against) = (Printable(self.policy), Printable(against));
        let is_error = |finding: &&Counted<'_>| finding.severity == "error";
        let errors = self.findings.iter().filter(is_error).count();
        let warnings = self.findings.len() - errors;
        writeln!(
            out,
            "{file}: policy \"{policy}\" is valid; checked against {against}: {errors} errors, {warnings} warnings"
        )
    }
}

/// `package.Service` of `/package.Service/Method`.
fn service(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let (service, _method) = path.rsplit_once('/').unwrap_or((path, ""));
    service.to_owned()
}
