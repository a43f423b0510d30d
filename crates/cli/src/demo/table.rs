//! The table of callers and RPCs: the decision of the policy beside what happened.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use authz::{Policy, Verdict};
use identity::{Claims, Role};
use mtls::{HandshakeError, Present, Reload, ServerIdentity, Source, Target, Trust};

use super::callers::{Player, Presents};
use super::programs::{Finished, Programs, ServerProcess};
use super::report::Report;
use super::spec::CallSpec;

/// What each name is at least as wide as, and what the widest cell needs.
const NAME_WIDTH: usize = 21;
const CELL_WIDTH: usize = 14;

/// How to read a cell: two words each.
const LEGEND: [&str; 5] = [
    "Each cell has two words: what the policy says, and what happened.",
    "  allow ok      the policy allows the call, and it was answered",
    "  deny  denied  the policy denies it, and it got PERMISSION_DENIED",
    "  -     refused the server refuses the certificate, so no policy is asked",
    "A \"!\" marks a cell where the two differ.",
];

/// What should become of a call, and what did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CellResult {
    /// It was answered.
    Allowed,
    /// The policy denied it.
    Denied,
    /// The server did not accept the certificate.
    Refused,
    /// Something unexpected.
    Other(String),
}

/// All that a row needs.
pub(super) struct CallTable<'a> {
    pub(super) programs: &'a Programs<'a>,
    pub(super) server: &'a ServerProcess,
    pub(super) policy: &'a Policy,
}

impl CallTable<'_> {
    /// Calls each RPC as each caller, and writes each row when it is known.
    pub(super) async fn show(&self, callers: &[Player], report: &mut Report<'_>) -> Result<()> {
        for line in LEGEND {
            writeln!(report.out, "  {line}")?;
        }
        let calls = &self.programs.spec.call;
        let width = |call: &CallSpec| CELL_WIDTH.max(call.method.len() + 2);
        write!(report.out, "\n  {:NAME_WIDTH$}", "")?;
        for call in calls {
            write!(report.out, "{:width$}", call.method, width = width(call))?;
        }
        writeln!(report.out)?;
        for caller in callers {
            write!(report.out, "  {:NAME_WIDTH$}", caller.name)?;
            report.out.flush()?;
            for call in calls {
                let expected = self.expected(caller, &call.method)?;
                let observed = self.observe(caller, &call.arguments).await?;
                match expected {
                    CellResult::Allowed => report.allowed += 1,
                    CellResult::Denied => report.denied += 1,
                    CellResult::Refused | CellResult::Other(_) => report.refused += 1,
                }
                let cell = cell(report, &expected, &observed, width(call));
                write!(report.out, "{cell}")?;
                report.out.flush()?;
                if expected != observed {
                    report.surprises.push(format!(
                        "{} as {}: expected {}, and it was {}",
                        call.method,
                        caller.name,
                        expected.word(),
                        observed.word()
                    ));
                }
            }
            writeln!(report.out)?;
        }
        Ok(())
    }

    fn expected(&self, caller: &Player, method: &str) -> Result<CellResult> {
        if caller.presents != Presents::Accepted {
            return Ok(CellResult::Refused);
        }
        let chain = crate::cert::chain(&caller.directory.join("tls.crt"))?;
        let claims = Claims::read(Role::Client, &chain)?;
        let path = format!("/{}/{method}", self.programs.spec.service);
        let (caller, headers) = (authz::Caller::claimed(&claims), http::HeaderMap::new());
        let decision = self.policy.decide(&caller, &path, &headers);
        Ok(match decision.verdict() {
            Verdict::Allow => CellResult::Allowed,
            Verdict::Deny => CellResult::Denied,
        })
    }

    async fn observe(&self, caller: &Player, arguments: &[String]) -> Result<CellResult> {
        match caller.presents {
            Presents::Accepted | Presents::Refused => {
                let (server, directory) = (self.server, &caller.directory);
                let done = self.programs.client(server, directory, arguments).await?;
                Ok(seen(&done))
            }
            Presents::Nothing => self.observe_nobody(&caller.directory).await,
        }
    }

    /// Our own client never calls without a certificate, so this is a handshake without one.
    async fn observe_nobody(&self, directory: &Path) -> Result<CellResult> {
        let target = Target::parse(self.server.target())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target.port()));
        let expected = ServerIdentity::Name(target.server_name());
        let source = Source::directory(directory);
        let trust = Trust::open(Role::Client, source, Reload::default())?;
        let (snapshot, nothing) = (trust.current(), Present::Nothing);
        let limit = Duration::from_secs(10);
        let probed = mtls::probe(address, &target, expected, &snapshot, nothing, limit);
        Ok(match probed.await {
            Err(HandshakeError::RefusedByPeer(_)) => CellResult::Refused,
            Err(other) => CellResult::Other(other.to_string()),
            Ok(server) => {
                CellResult::Other(format!("{server} accepted a client without a certificate"))
            }
        })
    }
}

fn seen(done: &Finished) -> CellResult {
    if done.code == Some(0) {
        return CellResult::Allowed;
    }
    let error = done.error().unwrap_or_default();
    match (done.code, error["code"].as_str(), error["reason"].as_str()) {
        (Some(77), Some("PERMISSION_DENIED"), _) => CellResult::Denied,
        (Some(77), Some("UNAUTHENTICATED"), Some("REFUSED_BY_PEER")) => CellResult::Refused,
        (Some(code), _, _) => {
            CellResult::Other(format!("exit code {code}: {}", done.stderr.trim()))
        }
        (None, _, _) => CellResult::Other(format!("a signal: {}", done.stderr.trim())),
    }
}

impl CellResult {
    fn word(&self) -> &str {
        match self {
            Self::Allowed => "answered",
            Self::Denied => "denied by the policy",
            Self::Refused => "refused for its certificate",
            Self::Other(what) => what,
        }
    }
}

fn cell(report: &Report<'_>, expected: &CellResult, observed: &CellResult, width: usize) -> String {
    let says = match expected {
        CellResult::Allowed => "allow",
        CellResult::Denied => "deny",
        CellResult::Refused | CellResult::Other(_) => "-",
    };
    let (happened, colour) = match observed {
        CellResult::Allowed => ("ok", "\x1b[32m"),
        CellResult::Denied => ("denied", "\x1b[33m"),
        CellResult::Refused => ("refused", "\x1b[35m"),
        CellResult::Other(_) => ("error", "\x1b[31m"),
    };
    let (mark, colour) = if expected == observed {
        ("", colour)
    } else {
        ("!", "\x1b[1;31m")
    };
    let (colour, plain) = report.paint(colour);
    let happened = format!("{happened}{mark}");
    let rest = width - 6;
    format!("{says:6}{colour}{happened:rest$}{plain}")
}
