//! Parses a [`Policy`] completely, or returns an error with the place and the reason.
//!
//! Nothing is skipped: an ignored field would be a rule that is not enforced.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use crate::audit::event::{AuditCondition, AuditLogger, AuditOptions};
use crate::audit::loggers::Loggers;
use crate::policy::compiled::Policy;
use crate::policy::cursor::{At, Parsed};
use crate::policy::decide::RuleList;
use crate::policy::invalid::{InvalidPolicy, PolicyFault};
use crate::policy::json;
use crate::policy::pattern::{Pattern, Patterns, StarAtBothEnds};
use crate::policy::rule::{self, HeaderRule, Rule};

impl Policy {
    /// Reads the JSON of gRFC A43 and gRFC A59, with the audit loggers that this crate brings.
    ///
    /// # Errors
    /// [`InvalidPolicy`], with the place, for anything that the standard does not define.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidPolicy> {
        Self::parse_with(text, &Loggers::built_in())
    }

    /// Like [`Self::parse`], with these audit loggers.
    ///
    /// # Errors
    /// See [`Self::parse`].
    pub fn parse_with(text: &[u8], loggers: &Loggers) -> Result<Self, InvalidPolicy> {
        policy(text, loggers)
    }
}

fn policy(text: &[u8], loggers: &Loggers) -> Parsed<Policy> {
    let root = json::parse(text).map_err(|error| InvalidPolicy {
        pointer: String::new(),
        line: u32::try_from(error.line()).unwrap_or(u32::MAX).max(1),
        fault: PolicyFault::NotJson(match base::json::instead(text) {
            Some(instead) => format!("{error}; {instead}"),
            None => error.to_string(),
        }),
    })?;
    if let (json::JsonValue::String(_), Some(instead)) = (&root.value, base::json::instead(text)) {
        return Err(InvalidPolicy {
            pointer: String::new(),
            line: root.line,
            fault: PolicyFault::NotJson(instead.to_owned()),
        });
    }
    let mut empty_lists = Vec::new();
    let root = At {
        node: &root,
        pointer: String::new(),
    };
    let fields = root.fields(&["name", "deny_rules", "allow_rules", "audit_logging_options"])?;
    let name = root.name(&fields, "name")?;
    let deny = match fields.get("deny_rules") {
        Some(rules) => rule_list(rules, &mut empty_lists)?,
        None => Vec::new(),
    };
    let missing = || root.fault(PolicyFault::Missing("allow_rules"));
    let allow_rules = fields.get("allow_rules").ok_or_else(missing)?;
    let allow = rule_list(allow_rules, &mut empty_lists)?;
    if allow.is_empty() {
        return Err(missing());
    }
    let audit = match fields.get("audit_logging_options") {
        Some(options) => audit(options, loggers)?,
        None => AuditOptions::default(),
    };
    let mut rules = deny.iter().chain(&allow);
    Ok(Policy {
        reads_metadata: rules.any(|rule| !rule.headers.is_empty()),
        name,
        deny: RuleList::new(deny),
        allow: RuleList::new(allow),
        allow_line: allow_rules.node.line,
        audit,
        empty_lists,
    })
}

type EmptyLists = Vec<(String, u32)>;

fn rule_list(list: &At<'_>, empty_lists: &mut EmptyLists) -> Parsed<Vec<Rule>> {
    let mut lines = HashMap::new();
    let mut rules = Vec::new();
    for item in list.items()? {
        let rule = rule(&item, empty_lists)?;
        if let Some(first) = lines.insert(rule.name.clone(), rule.line) {
            return Err(item.fault(PolicyFault::DuplicateRule {
                name: rule.name.into(),
                first,
            }));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(item: &At<'_>, empty_lists: &mut EmptyLists) -> Parsed<Rule> {
    let fields = item.fields(&["name", "source", "request"])?;
    let mut rule = Rule {
        name: item.name(&fields, "name")?,
        line: item.node.line,
        principals: Patterns::default(),
        paths: Patterns::default(),
        headers: Vec::new(),
    };
    if let Some(source) = fields.get("source") {
        let fields = source.fields(&["principals"])?;
        if let Some(principals) = fields.get("principals") {
            rule.principals = Patterns::new(patterns(principals, empty_lists)?);
        }
    }
    if let Some(request) = fields.get("request") {
        let fields = request.fields(&["paths", "headers"])?;
        if let Some(paths) = fields.get("paths") {
            rule.paths = Patterns::new(patterns(paths, empty_lists)?);
        }
        if let Some(headers) = fields.get("headers") {
            let items = headers.items_or_note(empty_lists)?;
            rule.headers = items.iter().map(header).collect::<Parsed<_>>()?;
        }
    }
    Ok(rule)
}

fn patterns(list: &At<'_>, empty_lists: &mut EmptyLists) -> Parsed<Vec<(Pattern, u32)>> {
    list.items_or_note(empty_lists)?
        .iter()
        .map(|item| Ok((pattern(item, |text| text.into())?, item.node.line)))
        .collect()
}

fn pattern(item: &At<'_>, normal: impl Fn(&str) -> String) -> Parsed<Pattern> {
    let text = item.string()?;
    Pattern::parse(&normal(text))
        .map_err(|StarAtBothEnds| item.fault(PolicyFault::StarAtBothEnds(text.to_owned())))
}

fn header(item: &At<'_>) -> Parsed<HeaderRule> {
    let fields = item.fields(&["key", "values"])?;
    let key = match fields.get("key") {
        Some(key) => header_key(key)?,
        None => return Err(item.fault(PolicyFault::Missing("key"))),
    };
    let values = match fields.get("values") {
        Some(values) => values.items()?,
        None => Vec::new(),
    };
    if values.is_empty() {
        return Err(item.fault(PolicyFault::Missing("values")));
    }
    let normal = |text: &str| match rule::is_binary(&key) {
        true => rule::unpadded(text),
        false => text.to_owned(),
    };
    let values = values
        .iter()
        .map(|value| pattern(value, normal))
        .collect::<Parsed<_>>()?;
    Ok(HeaderRule {
        line: item.node.line,
        key,
        values,
    })
}

/// Hop-by-hop and pseudo headers, `host`, and those that gRPC keeps for itself (gRFC A43, gRFC A41).
const FORBIDDEN: [&str; 9] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header_key(item: &At<'_>) -> Parsed<HeaderName> {
    let text = item.string()?;
    let key = text.to_ascii_lowercase();
    if key.is_empty() {
        return Err(item.fault(PolicyFault::Missing("key")));
    }
    if key.starts_with(':') || key.starts_with("grpc-") || FORBIDDEN.contains(&key.as_str()) {
        return Err(item.fault(PolicyFault::ForbiddenHeader(text.to_owned())));
    }
    HeaderName::try_from(key)
        .map_err(|_invalid| item.fault(PolicyFault::NotAHeader(text.to_owned())))
}

fn audit(options: &At<'_>, registry: &Loggers) -> Parsed<AuditOptions> {
    let fields = options.fields(&["audit_condition", "audit_loggers"])?;
    let condition = match fields.get("audit_condition") {
        Some(item) => {
            let text = item.string()?;
            AuditCondition::parse(text)
                .ok_or_else(|| item.fault(PolicyFault::UnknownCondition(text.to_owned())))?
        }
        None => AuditCondition::None,
    };
    let (mut loggers, mut left_out) = (Vec::new(), Vec::new());
    if let Some(list) = fields.get("audit_loggers") {
        for item in list.items()? {
            match logger(&item, registry)? {
                Found::Registered(logger) => loggers.push(logger),
                Found::LeftOut(name) => {
                    left_out.push((item.pointer.clone(), item.node.line, name.into()));
                }
            }
        }
    }
    Ok(AuditOptions {
        condition,
        loggers,
        left_out,
        line: Some(options.node.line),
    })
}

enum Found {
    Registered(Arc<dyn AuditLogger>),
    /// Optional, and not registered.
    LeftOut(Box<str>),
}

fn logger(item: &At<'_>, registry: &Loggers) -> Parsed<Found> {
    let fields = item.fields(&["name", "config", "is_optional"])?;
    let name = item.name(&fields, "name")?;
    let optional = match fields.get("is_optional") {
        Some(optional) => optional.boolean()?,
        None => false,
    };
    let config = match fields.get("config") {
        Some(config) => config.json_object()?,
        None => serde_json::Map::new(),
    };
    match registry.build(&name, &config) {
        Some(Ok(logger)) => Ok(Found::Registered(logger)),
        Some(Err(reason)) => Err(item.fault(PolicyFault::LoggerConfig {
            name: name.into(),
            reason: reason.to_string(),
        })),
        None if optional => Ok(Found::LeftOut(name)),
        None => {
            let registered = registry.names().collect::<Vec<_>>().join(", ");
            Err(item.fault(PolicyFault::UnknownLogger {
                name: name.into(),
                registered,
            }))
        }
    }
}
