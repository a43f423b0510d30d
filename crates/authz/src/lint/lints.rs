//! Finds likely mistakes in one rule by itself. Each finding says who is allowed, or who evades the rule.

use crate::lint::coverage::{NameKind, contradict, kind, subsumes};
use crate::lint::finding::{Findings, Located};
use crate::lint::principal::{impossible, misordered};
use crate::policy::compiled::Policy;
use crate::policy::path::{self, MethodPath};
use crate::policy::pattern::{Pattern, Patterns};
use crate::policy::rule::{HeaderRule, List};

pub(crate) fn rule(located: Located<'_>, findings: &mut Findings) {
    let rule = located.rule;
    if located.list == List::Allow {
        whom_it_lets_in(located, findings);
    }
    repeated(located, "source/principals", &rule.principals, findings);
    repeated(located, "request/paths", &rule.paths, findings);
    for (at, (pattern, line)) in rule.principals.items().iter().enumerate() {
        let place = (located.pointer(&format!("source/principals/{at}")), *line);
        principal(pattern, located.list, place, findings);
    }
    for (at, (pattern, line)) in rule.paths.items().iter().enumerate() {
        path(
            pattern,
            (located.pointer(&format!("request/paths/{at}")), *line),
            findings,
        );
    }
    headers(located, findings);
}

fn whom_it_lets_in(located: Located<'_>, findings: &mut Findings) {
    let rule = located.rule;
    if rule.principals.is_empty() {
        let message = match rule.headers.is_empty() {
            true => {
                "names no principal, so it allows any caller, also one without a certificate: use \"*\" for any identity"
            }
            false => {
                "names no principal, and the caller chooses the headers: it allows any caller that knows them"
            }
        };
        findings.warn(located.whole(), "any-caller", message.into());
    }
    if rule.paths.is_empty() {
        let message = "names no path, so it allows every RPC, also future ones";
        findings.warn(located.whole(), "any-rpc", message.into());
    }
}

fn repeated(located: Located<'_>, within: &str, patterns: &Patterns, findings: &mut Findings) {
    let comparisons = || {
        patterns
            .items()
            .len()
            .saturating_mul(patterns.wild().count())
    };
    if !findings.afford(comparisons) {
        return;
    }
    for (at, (pattern, line)) in patterns.items().iter().enumerate() {
        let covers = |(other_at, (other, _)): &(usize, &(Pattern, u32))| {
            let first = *other_at < at;
            *other_at != at
                && if other == pattern {
                    first
                } else {
                    subsumes(other, pattern)
                }
        };
        let wild = || {
            patterns
                .wild()
                .any(|other| other != pattern && subsumes(other, pattern))
        };
        let again = match pattern {
            Pattern::Exact(text) => {
                patterns.position(text).is_some_and(|first| first < at) || wild()
            }
            Pattern::Present | Pattern::Prefix(_) | Pattern::Suffix(_) => patterns
                .items()
                .iter()
                .enumerate()
                .any(|item| covers(&item)),
        };
        if again {
            findings.warn(
                (located.pointer(&format!("{within}/{at}")), *line),
                "redundant-pattern",
                format!(
                    "{:?} is in this list already, or part of a wider pattern in it",
                    pattern.to_string()
                ),
            );
        }
    }
}

fn principal(pattern: &Pattern, list: List, place: (String, u32), findings: &mut Findings) {
    if has_inner_star(pattern) {
        let message = format!(
            "the star inside {:?} is literal: only one at an end is a wildcard",
            pattern.to_string()
        );
        findings.warn(place.clone(), "literal-star", message);
    }
    if let Some((code, message)) = impossible(pattern) {
        return findings.error(place, code, message);
    }
    if let Some(message) = misordered(pattern) {
        findings.warn(place.clone(), "subject-order", message);
    }
    let text = match pattern {
        Pattern::Present => return,
        Pattern::Exact(text) if text.is_empty() => {
            let message =
                "\"\" matches only a caller without a certificate, or with one that has no name";
            return findings.warn(place, "nobody", message.into());
        }
        Pattern::Exact(text) => {
            exact_principal(text, place.clone(), findings);
            text
        }
        Pattern::Prefix(prefix) => {
            open_prefix(prefix, place.clone(), findings);
            prefix
        }
        Pattern::Suffix(suffix) => {
            let message = format!(
                "\"*{}\" matches names of any kind: a URI, a DNS name or a subject may end so; name the callers",
                suffix.escape_debug()
            );
            findings.warn(place.clone(), "suffix-of-any-kind", message);
            suffix
        }
    };
    dns_case(pattern, text, place.clone(), findings);
    if list == List::Deny && kind(text) != NameKind::Uri {
        let case = match kind(text) {
            NameKind::Dns => {
                "; and so does one whose certificate has the DNS name in other case, since names are compared byte for \
                 byte"
            }
            NameKind::Uri | NameKind::Subject => "",
        };
        let message = format!(
            "a caller whose certificate has a name of an earlier kind too (URI, then DNS, then subject) evades this deny rule (gRFC A41): deny it by that name too{case}"
        );
        findings.warn(place, "identity-order", message);
    }
}

fn has_inner_star(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Present => false,
        Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text) => text.contains('*'),
    }
}

fn exact_principal(text: &str, place: (String, u32), findings: &mut Findings) {
    if kind(text) != NameKind::Subject {
        return;
    }
    let typed = |rdn: &str, of: &str| {
        rdn.split('=')
            .next()
            .is_some_and(|t| t.eq_ignore_ascii_case(of))
    };
    let first = text.split(',').next().unwrap_or_default();
    let last = text.rsplit(',').next().unwrap_or_default();
    if (typed(first, "C") || typed(first, "DC")) && typed(last, "CN") {
        let message = format!(
            "{text:?} begins with the country: RFC 4514 begins with the most specific name"
        );
        findings.warn(place, "subject-order", message);
    }
}

/// DNS names are the same in any case for a resolver (RFC 4343), and are not for gRFC A41.
fn dns_case(pattern: &Pattern, text: &str, place: (String, u32), findings: &mut Findings) {
    if kind(text) == NameKind::Dns && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let message = format!(
            "{:?} has upper case and names are compared byte for byte: it fits only certificates with the same letters, \
             and most have {:?}",
            pattern.to_string(),
            pattern.to_string().to_ascii_lowercase()
        );
        findings.warn(place, "dns-case", message);
    }
}

fn open_prefix(prefix: &str, place: (String, u32), findings: &mut Findings) {
    let (code, message) = match kind(prefix) {
        NameKind::Uri => match prefix.split_once("://") {
            Some((_, rest)) if !rest.contains('/') => (
                "crosses-trust-domains",
                format!(
                    "\"{}*\" also fits other trust domains: end it with a slash",
                    prefix.escape_debug()
                ),
            ),
            Some(_) | None if prefix.ends_with('/') => return,
            Some(_) | None => (
                "open-prefix",
                format!(
                    "\"{}*\" also fits longer names: end it with a slash",
                    prefix.escape_debug()
                ),
            ),
        },
        NameKind::Subject if prefix.ends_with(',') => return,
        NameKind::Subject => (
            "open-prefix",
            format!(
                "\"{}*\" ends with an RDN here, but fits longer values in other implementations: end it with a comma",
                prefix.escape_debug()
            ),
        ),
        NameKind::Dns => (
            "open-prefix",
            format!(
                "\"{}*\" fits names under other domains: DNS names grow to the left",
                prefix.escape_debug()
            ),
        ),
    };
    findings.warn(place, code, message);
}

fn path(pattern: &Pattern, place: (String, u32), findings: &mut Findings) {
    if !fits_some_path(pattern) {
        let message = format!(
            "{:?} fits no RPC: a path is /package.Service/Method",
            pattern.to_string()
        );
        return findings.error(place, "malformed-path", message);
    }
    let crosses = match pattern {
        Pattern::Present | Pattern::Exact(_) => false,
        Pattern::Prefix(prefix) => {
            !path::is_service_prefix(prefix) && prefix.matches('/').count() < 2
        }
        Pattern::Suffix(suffix) => suffix.matches('/').count() < 2,
    };
    if crosses {
        let message = format!(
            "{:?} fits methods of more than one service",
            pattern.to_string()
        );
        findings.warn(place.clone(), "crosses-services", message);
    }
    let (Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text)) = pattern else {
        return;
    };
    if text.contains('*') {
        let message = format!(
            "the star inside {:?} is literal: only one at an end is a wildcard",
            pattern.to_string()
        );
        findings.warn(place, "literal-star", message);
    }
}

/// Whether any well-formed path matches.
pub(crate) fn fits_some_path(pattern: &Pattern) -> bool {
    let completed = match pattern {
        Pattern::Present => return true,
        Pattern::Exact(path) => return MethodPath::parse(path).is_some(),
        Pattern::Prefix(prefix) => ["", "m", "s/m", "/m"].map(|rest| format!("{prefix}{rest}")),
        Pattern::Suffix(suffix) => ["", "/s/m", "/s", "/"].map(|start| format!("{start}{suffix}")),
    };
    completed
        .iter()
        .any(|path| MethodPath::parse(path).is_some())
}

fn headers(located: Located<'_>, findings: &mut Findings) {
    let headers = &located.rule.headers;
    for (at, header) in headers.iter().enumerate() {
        let place = || {
            (
                located.pointer(&format!("request/headers/{at}")),
                header.line,
            )
        };
        let earlier_ones = match findings.afford(|| at) {
            true => &headers[..at],
            false => &[],
        };
        let comparisons =
            |earlier: &HeaderRule| earlier.values.len().saturating_mul(header.values.len());
        let contradicted = earlier_ones.iter().any(|earlier| {
            earlier.key == header.key
                && findings.afford(|| comparisons(earlier))
                && contradict(earlier, header)
        });
        if contradicted {
            let message = format!(
                "no value of {:?} fits both this and an earlier header of the rule",
                header.key
            );
            findings.error(place(), "never-matches", message);
        }
        if located.list == List::Deny {
            let message = format!(
                "the caller chooses {:?}, and evades the rule by another value or by repeating it",
                header.key
            );
            findings.warn(place(), "evadable-header", message);
        }
    }
}

pub(crate) fn audit(policy: &Policy, findings: &mut Findings) {
    for (pointer, line, name) in &policy.audit.left_out {
        let message = format!("the optional logger {name:?} is not registered, so it is left out");
        findings.warn((pointer.clone(), *line), "logger-left-out", message);
    }
    let Some(line) = policy.audit.line else {
        return;
    };
    let wants = policy.audit.condition != crate::audit::event::AuditCondition::None;
    if wants == policy.audit.loggers.is_empty() {
        let message = match wants {
            true => "asks for audit events and has no logger to write them: name one",
            false => "names a logger but asks for no audit events: set audit_condition",
        };
        findings.warn(
            ("/audit_logging_options".into(), line),
            "silent-audit",
            message.into(),
        );
    }
}
