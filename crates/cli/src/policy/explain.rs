//! `policy explain`: why a policy decides an RPC as it does.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use authz::{Caller, Cause, Decision, Explanation, Loggers, Outcome, RuleOutcome};
use clap::Args;
use identity::{Claims, Role};
use serde::Serialize;

use super::case::{CaseResult, Results};
use super::input;
use super::peer::DescribedCaller;
use crate::text::Printable;
use crate::{OutputFormat, cert};

/// Explain how a policy decides one RPC: which rule matched which name of the caller, and why the others did not.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The policy.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
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
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    metadata: Vec<(String, String)>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl Explain {
    pub(super) fn run(&self, loggers: &Loggers, out: &mut dyn Write) -> Result<bool> {
        let policy = input::policy(&self.policy, loggers)?;
        let (caller, headers) = (self.caller()?, input::metadata(&self.metadata)?);
        let Explanation {
            decision,
            identity,
            rules,
        } = policy.explain(&caller, &self.method, &headers);
        let explained = Explained {
            result: CaseResult::new(&self.method, decision, true),
            identity: KnownBy {
                kind: identity.kind(),
                names: identity.names().collect(),
                ignored: ignored(&caller),
            },
            rules: rules.iter().map(ExplainedRule::of).collect(),
        };
        let results = Results::of([&explained]);
        let text = |out: &mut dyn Write| explained.write(decision, out);
        self.output.write(&results, out, text)?;
        Ok(true)
    }

    fn caller(&self) -> Result<Caller> {
        match (&self.cert, &self.peer) {
            (Some(cert), _) => {
                let claims = Claims::read(Role::Client, &cert::chain(cert)?);
                let claims = claims.map_err(|refusal| {
                    let (file, code) = (cert.display(), refusal.code());
                    anyhow!("{file} is not accepted from a caller: {code}: {refusal}")
                })?;
                Ok(Caller::claimed(&claims))
            }
            (None, Some(json)) => Ok(input::json::<DescribedCaller>("--peer", json.as_bytes())?.0),
            (None, None) => bail!("give --cert or --peer"),
        }
    }
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    result: CaseResult<'a>,
    identity: KnownBy<'a>,
    rules: Vec<ExplainedRule<'a>>,
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
struct ExplainedRule<'a> {
    list: String,
    name: &'a str,
    line: u32,
    matches: bool,
    why: String,
}

impl<'a> ExplainedRule<'a> {
    fn of(rule: &RuleOutcome<'a>) -> Self {
        Self {
            list: rule.list.to_string(),
            name: rule.name,
            line: rule.line,
            matches: matches!(rule.outcome, Outcome::Matches { .. }),
            why: rule.outcome.to_string(),
        }
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

impl Explained<'_> {
    fn write(&self, decision: Decision<'_>, out: &mut dyn Write) -> io::Result<()> {
        let KnownBy {
            kind,
            names,
            ignored,
        } = &self.identity;
        let (verdict, method) = (decision.verdict().as_str(), Printable(self.result.name));
        writeln!(out, "{verdict} {method}: {}", because(decision))?;
        writeln!(out, "  known by   {kind}{}", quoted(names))?;
        if !ignored.is_empty() {
            writeln!(
                out,
                "  not by    {}: only names of the first kind count (URI, then DNS, then subject; gRFC A41)",
                quoted(ignored)
            )?;
        }
        for rule in &self.rules {
            let (list, line) = (&rule.list, rule.line);
            let (name, why) = (Printable(rule.name), Printable(&rule.why));
            writeln!(out, "  line {line:<5} {list:5} rule \"{name}\" {why}")?;
        }
        Ok(())
    }
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
