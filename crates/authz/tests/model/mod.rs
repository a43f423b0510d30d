//! The reference model: gRFC A43 and A41 as they are written, one sentence after the other.
//!
//! It shares no code with the engine and has no index: slow, and meant to be checked by reading.

use countersign_authz::Caller;
use http::HeaderMap;
use serde_json::Value;

/// Whether a valid policy allows an RPC.
pub(crate) fn allows(policy: &Value, caller: &Caller, path: &str, headers: &HeaderMap) -> bool {
    let matches = |list: &str| {
        let rules = policy
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        rules
            .into_iter()
            .any(|rule| rule_matches(rule, caller, path, headers))
    };
    // Deny rules are evaluated first; if none matches, an allow rule has to; else the RPC is denied.
    is_method(path) && !matches("deny_rules") && matches("allow_rules")
}

/// `/service/method`, two parts without a slash; a query or a fragment is no part of a method's name.
fn is_method(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["", service, method] if !service.is_empty() && !method.is_empty())
        && !path.contains('?')
        && !path.contains('#')
}

/// Source AND request; request is paths AND headers; whatever is absent or empty matches.
fn rule_matches(rule: &Value, caller: &Caller, path: &str, headers: &HeaderMap) -> bool {
    let principals = strings(rule.pointer("/source/principals"));
    let paths = strings(rule.pointer("/request/paths"));
    (principals.is_empty()
        || principals
            .iter()
            .any(|pattern| principal_matches(pattern, caller)))
        && (paths.is_empty() || paths.iter().any(|pattern| text_matches(pattern, path)))
        && items(rule.pointer("/request/headers"))
            .iter()
            .all(|rule| header_matches(rule, headers))
}

/// URI SANs if there are any, else DNS SANs if there are any, else the subject. Without TLS nothing matches.
fn principal_matches(pattern: &str, caller: &Caller) -> bool {
    match caller {
        Caller::Plaintext => false,
        Caller::Anonymous => pattern.is_empty(),
        Caller::Authenticated {
            uri_sans,
            dns_sans,
            subject,
        } => {
            if !uri_sans.is_empty() {
                uri_sans.iter().any(|name| text_matches(pattern, name))
            } else if !dns_sans.is_empty() {
                dns_sans.iter().any(|name| text_matches(pattern, name))
            } else {
                subject_matches(pattern, subject)
            }
        }
    }
}

/// A pattern is `*` (present), `prefix*`, `*suffix` or exact.
fn text_matches(pattern: &str, text: &str) -> bool {
    if pattern == "*" {
        !text.is_empty()
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        text.starts_with(prefix)
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        text.ends_with(suffix)
    } else {
        text == pattern
    }
}

/// As a text; but a prefix or a suffix is some whole RDNs, with or without the comma next to them.
fn subject_matches(pattern: &str, subject: &str) -> bool {
    if pattern == "*" || !pattern.contains('*') {
        return text_matches(pattern, subject);
    }
    let rdns = rdns(subject);
    let whole = |part: &str| part == subject;
    if let Some(prefix) = pattern.strip_suffix('*') {
        let starts = (1..rdns.len()).map(|count| rdns[..count].join(","));
        whole(prefix)
            || starts
                .into_iter()
                .any(|start| prefix == start || prefix == format!("{start},"))
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        let ends = (1..rdns.len()).map(|first| rdns[first..].join(","));
        whole(suffix)
            || ends
                .into_iter()
                .any(|end| suffix == end || suffix == format!(",{end}"))
    } else {
        pattern == subject
    }
}

/// RFC 4514: RDNs are separated by commas; a backslash takes its meaning from the next character.
fn rdns(subject: &str) -> Vec<String> {
    let mut rdns = vec![String::new()];
    let mut escaped = false;
    for character in subject.chars() {
        if character == ',' && !escaped {
            rdns.push(String::new());
        } else {
            rdns.last_mut().unwrap().push(character);
        }
        escaped = character == '\\' && !escaped;
    }
    rdns
}

/// Keys without regard to case; the values of a repeated header are joined by commas; an absent header never matches.
fn header_matches(rule: &Value, headers: &HeaderMap) -> bool {
    let key = rule["key"].as_str().unwrap().to_lowercase();
    let values: Vec<&str> = headers
        .get_all(&key)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    let normal = |text: &str| match key.ends_with("-bin") {
        true => text
            .split(',')
            .map(|base64| base64.trim_end_matches('='))
            .collect::<Vec<_>>()
            .join(","),
        false => text.to_owned(),
    };
    let joined = normal(&values.join(","));
    !values.is_empty()
        && strings(rule.get("values"))
            .iter()
            .any(|pattern| text_matches(&normal(pattern), &joined))
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings(list: Option<&Value>) -> Vec<&str> {
    items(list)
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}
