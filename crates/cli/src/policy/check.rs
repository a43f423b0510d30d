//! `policy check`: what is probably wrong with a valid policy.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use authz::{Api, Policy, Severity};
use serde::Serialize;

use super::input::{self, ApiChoice};
use crate::OutputFormat;
use crate::text::{Printable, write_json};

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

/// Whether there is nothing that counts against the policy.
pub(super) fn write(
    file: &Path,
    policy: &Policy,
    api: &ApiChoice,
    strict: bool,
    output: OutputFormat,
    out: &mut dyn Write,
) -> Result<bool> {
    let (choice, api) = (api.to_string(), input::api(api)?);
    let (found, error) = match &api {
        Some(api) => (authz::check(policy, api), "error"),
        // What A43 allows may be intended, as long as the API is not known.
        None => (authz::lint(policy), "warning"),
    };
    let findings = found
        .iter()
        .map(|found| Counted {
            severity: match found.severity {
                Severity::Error | Severity::Warning if strict => "error",
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
        api: choice,
        services: api.iter().flat_map(Api::paths).map(service).collect(),
        rpcs: api.as_ref().map(|api| api.paths().count()),
        ok,
        findings,
    };
    match output {
        OutputFormat::Json => write_json(&checked, out)?,
        OutputFormat::Text => write_text(file, &checked, out)?,
    }
    Ok(ok)
}

fn write_text(file: &Path, checked: &Checked<'_>, out: &mut dyn Write) -> Result<()> {
    let Checked {
        policy,
        api,
        services,
        rpcs,
        ok: _,
        findings,
    } = checked;
    let file = Printable(file.display());
    for finding in findings {
        let Counted {
            severity,
            line,
            pointer,
            code,
            message,
        } = finding;
        let (pointer, message) = (Printable(pointer), Printable(message));
        writeln!(
            out,
            "{file}:{line}: {severity}: {pointer}: {message} [{code}]"
        )?;
    }
    let against = match rpcs {
        Some(rpcs) => {
            let services = services.iter().map(String::as_str).collect::<Vec<_>>();
            format!("{api} ({rpcs} RPCs of {})", services.join(", "))
        }
        None => "no API".to_owned(),
    };
    let errors = findings.iter().filter(|it| it.severity == "error").count();
    let warnings = findings.len() - errors;
    writeln!(
        out,
        "{file}: policy \"{}\" is valid; checked against {}: {errors} errors, {warnings} warnings",
        Printable(policy),
        Printable(against)
    )?;
    Ok(())
}

/// `package.Service` of `/package.Service/Method`.
fn service(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let (service, _method) = path.rsplit_once('/').unwrap_or((path, ""));
    service.to_owned()
}
