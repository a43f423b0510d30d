//! `policy explain`: why a policy decides an RPC as it does.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use authz::{Caller, Cause, Decision, Explanation, Outcome, Policy};
use clap::Args;
use identity::{Claims, Role};
use serde::Serialize;

use super::case::{CaseResult, Results};
use super::input::{self, NameValue};
use super::peer::Peer;
use crate::text::{Printable, write_json};
use crate::{OutputFormat, cert};

/// The caller and the RPC.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The certificate of the caller, PEM or DER.
    #[arg(long, value_name = "FILE", required_unless_present = "peer")]
    cert: Option<PathBuf>,
    /// The caller, as JSON: {"uri_sans": [], "dns_sans": [], "subject": ""}; "authenticated": false is a caller without
    /// a certificate, "tls": false one without TLS.
    #[arg(long, value_name = "JSON", conflicts_with = "cert")]
    peer: Option<String>,
    /// The RPC: /package.Service/Method.
    #[arg(long, value_name = "PATH")]
    method: String,
    /// Metadata of the call; may be repeated, also with one key.
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<NameValue>,
}

impl Question {
    fn caller(&self) -> Result<Caller> {
        match (&self.cert, &self.peer) {
            (Some(cert), _) => {
                let claims =
                    Claims::read(Role::Client, &cert::chain(cert)?).map_err(|refusal| {
                        let (file, code) = (cert.display(), refusal.code());
                        anyhow!("{file} is not accepted from a caller: {code}: {refusal}")
                    })?;
                Ok(Caller::claimed(&claims))
            }
            (None, Some(json)) => {
                input::json::<Peer>("--peer", json.as_bytes()).map(|Peer(caller)| caller)
            }
            (None, None) => bail!("give --cert or --peer"),
        }
    }
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    result: CaseResult<'a>,
    identity: KnownBy<'a>,
    rules: Vec<Rule<'a>>,
}

/// The names by which the policy knows the caller.
#[derive(Serialize)]
struct KnownBy<'a> {
    kind: &'static str,
    names: Vec<&'a str>,
    /// What the certificate also says, and no rule can match.
    ignored: Vec<&'a str>,
}

#[derive(Serialize)]
struct Rule<'a> {
    list: String,
    name: &'a str,
    line: u32,
    matches: bool,
    why: String,
}

pub(super) fn write(
    policy: &Policy,
    question: &Question,
    output: OutputFormat,
    out: &mut dyn Write,
) -> Result<()> {
    let (caller, headers) = (question.caller()?, input::metadata(&question.metadata)?);
    let explanation = policy.explain(&caller, &question.method, &headers);
    let decision = explanation.decision;
    let explained = explain(explanation, &caller, &question.method);
    match output {
        OutputFormat::Json => {
            let results = vec![explained];
            write_json(&Results { results }, out)?;
        }
        OutputFormat::Text => write_text(&explained, decision, out)?,
    }
    Ok(())
}

fn explain<'a>(explanation: Explanation<'a>, caller: &'a Caller, method: &'a str) -> Explained<'a> {
    let Explanation {
        decision,
        identity,
        rules,
    } = explanation;
    let rules = rules
        .iter()
        .map(|rule| Rule {
            list: rule.list.to_string(),
            name: rule.name,
            line: rule.line,
            matches: match rule.outcome {
                Outcome::Matches { .. } => true,
                Outcome::OtherPath
                | Outcome::OtherPrincipal
                | Outcome::NoHeader { .. }
                | Outcome::OtherHeader { .. } => false,
            },
            why: rule.outcome.to_string(),
        })
        .collect();
    Explained {
        result: CaseResult::new(method, decision, true),
        identity: KnownBy {
            kind: identity.kind(),
            names: identity.names().collect(),
            ignored: ignored(caller),
        },
        rules,
    }
}

/// The names of a certificate that do not count, since it has some of an earlier kind (gRFC A41).
fn ignored(caller: &Caller) -> Vec<&str> {
    let counted: Vec<&str> = caller.identity().names().collect();
    match caller {
        Caller::Plaintext | Caller::Anonymous => Vec::new(),
        Caller::Authenticated {
            uri_sans: _,
            dns_sans,
            subject,
        } => dns_sans
            .iter()
            .chain([subject])
            .map(String::as_str)
            .filter(|name| !name.is_empty() && !counted.contains(name))
            .collect(),
    }
}

fn write_text(
    explained: &Explained<'_>,
    decision: Decision<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Explained {
        result,
        identity,
        rules,
    } = explained;
    writeln!(
        out,
        "{} {}: {}",
        result.decision,
        Printable(result.name),
        because(decision)
    )?;
    let names = quoted(&identity.names);
    writeln!(out, "  known by   {}{names}", identity.kind)?;
    if !identity.ignored.is_empty() {
        writeln!(
            out,
            "  not by    {}: only names of the first kind count (URI, then DNS, then subject; gRFC A41)",
            quoted(&identity.ignored)
        )?;
    }
    for rule in rules {
        let Rule {
            list,
            name,
            line,
            matches: _,
            why,
        } = rule;
        writeln!(
            out,
            "  line {line:<5} {list:5} rule \"{}\" {}",
            Printable(name),
            Printable(why)
        )?;
    }
    Ok(())
}

fn quoted(names: &[&str]) -> String {
    let visible = names.iter().filter(|name| !name.is_empty());
    visible
        .map(|name| format!(" \"{}\"", Printable(name)))
        .collect()
}

/// Why it was decided so, in words.
pub(super) fn because(decision: Decision<'_>) -> String {
    let rule = |list, name| {
        let principal = match decision.principal {
            "" => "a caller without a name".to_owned(),
            principal => format!("\"{}\"", Printable(principal)),
        };
        format!(
            "by the {list} rule \"{}\", for {principal}",
            Printable(name)
        )
    };
    match decision.cause {
        Cause::DenyRule(name) => rule("deny", name),
        Cause::AllowRule(name) => rule("allow", name),
        Cause::NoRule => "because no rule matches".to_owned(),
        Cause::MalformedPath => {
            "because the path is not /service/method, which the server answers with UNIMPLEMENTED"
                .to_owned()
        }
    }
}
