//! Texts that are no policy: each is refused, at its place, for its one reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign_authz::{InvalidPolicy, Loggers, Policy};

fn refusal(text: &str) -> InvalidPolicy {
    let parsed = Policy::parse(text.as_bytes());
    assert!(parsed.is_err(), "accepted: {text}");
    parsed.unwrap_err()
}

#[test]
fn each_fault_is_refused_at_its_place() {
    let rule = |rest: &str| format!(r#"{{"name":"p","allow_rules":[{{"name":"r"{rest}}}]}}"#);
    let top = |rest: &str| format!(r#"{{"name":"p","allow_rules":[{{"name":"r"}}]{rest}}}"#);
    let header = |header: &str| rule(&format!(r#","request":{{"headers":[{header}]}}"#));
    let key = |key: &str| header(&format!(r#"{{"key":{key:?},"values":["v"]}}"#));
    let audit = |options: &str| top(&format!(r#","audit_logging_options":{options}"#));
    let logger = |logger: &str| audit(&format!(r#"{{"audit_loggers":[{logger}]}}"#));
    let first = "/allow_rules/0";
    let at_key = "/allow_rules/0/request/headers/0/key";
    for (text, pointer, reason) in [
        (String::new(), "", "not JSON: EOF"),
        ("{".into(), "", "not JSON: EOF"),
        ("\u{feff}{}".into(), "", "not JSON: expected value"),
        ("\u{feff}{}".into(), "", "byte order mark: save it"),
        ("name: p".into(), "", "it is YAML"),
        (top(",").replace("}]", ",}]"), "", "comma after the last"),
        (format!("{} // mine", top("")), "", "it has a comment"),
        (top("").replace('"', "'"), "", "single quotes"),
        ("null".into(), "", "expected an object, found null"),
        ("[]".into(), "", "expected an object, found an array"),
        ("\"name\"".into(), "", "JSON inside a JSON string"),
        (format!("{}1", top("")), "", "not JSON: trailing characters"),
        (
            format!("{} {}", top(""), top("")),
            "",
            "not JSON: trailing characters",
        ),
        ("[".repeat(200), "", "not JSON: recursion limit"),
        (
            format!(r#"{{"name":{}"#, "[".repeat(1 << 20)),
            "",
            "not JSON: recursion limit",
        ),
        (
            r#"{"name":"p"}"#.into(),
            "",
            r#""allow_rules" is missing or empty"#,
        ),
        (
            r#"{"name":"p","allow_rules":[]}"#.into(),
            "",
            r#""allow_rules" is missing or empty"#,
        ),
        (
            r#"{"name":"p","deny_rules":[{"name":"d"}]}"#.into(),
            "",
            r#""allow_rules" is missing or empty"#,
        ),
        (
            r#"{"allow_rules":[{"name":"r"}]}"#.into(),
            "",
            r#""name" is missing or empty"#,
        ),
        (
            r#"{"name":null,"allow_rules":[{"name":"r"}]}"#.into(),
            "/name",
            "expected a string, found null",
        ),
        (
            r#"{"name":"p","allow_rules":null}"#.into(),
            "/allow_rules",
            "expected an array, found null",
        ),
        (
            r#"{"name":"p","allow_rules":[null]}"#.into(),
            first,
            "expected an object, found null",
        ),
        (
            top(r#","deny_rules":null"#),
            "/deny_rules",
            "expected an array, found null",
        ),
        (
            top(r#","deny_rules":{}"#),
            "/deny_rules",
            "expected an array, found an object",
        ),
        (
            top(r#","deny_rules":[{}]"#),
            "/deny_rules/0",
            r#""name" is missing or empty"#,
        ),
        (
            top(r#","name":"q""#),
            "/name",
            r#"the field "name" is repeated"#,
        ),
        (
            top(r#","allow_rules":[{"name":"q"}]"#),
            "/allow_rules",
            r#"the field "allow_rules" is repeated"#,
        ),
        (top(r#","Name":"q""#), "/Name", r#"unknown field "Name""#),
        (top(r#","a/b~c":1"#), "/a~1b~0c", r#"unknown field "a/b~c""#),
        (
            top(",\"\\u001b[2J\":1"),
            "/\u{1b}[2J",
            r#"unknown field "\u{1b}[2J""#,
        ),
        (rule(r#","":1"#), "/allow_rules/0/", r#"unknown field """#),
        (
            rule(r#","name":"s""#),
            "/allow_rules/0/name",
            r#"the field "name" is repeated"#,
        ),
        (
            rule(r#","source":null"#),
            "/allow_rules/0/source",
            "expected an object, found null",
        ),
        (
            rule(r#","source":[]"#),
            "/allow_rules/0/source",
            "expected an object, found an array",
        ),
        (
            rule(r#","source":{"principal":[]}"#),
            "/allow_rules/0/source/principal",
            "the fields here are principals",
        ),
        (
            rule(r#","source":{"principals":"a"}"#),
            "/allow_rules/0/source/principals",
            "expected an array",
        ),
        (
            rule(r#","source":{"principals":[null]}"#),
            "/allow_rules/0/source/principals/0",
            "expected a string",
        ),
        (
            rule(r#","source":{"principals":["a","**"]}"#),
            "/allow_rules/0/source/principals/1",
            "a star at both ends",
        ),
        (
            rule(r#","source":{"principals":["*a*"]}"#),
            "/allow_rules/0/source/principals/0",
            "a star at both ends",
        ),
        (
            rule(r#","request":[]"#),
            "/allow_rules/0/request",
            "expected an object, found an array",
        ),
        (
            rule(r#","request":{"path":[]}"#),
            "/allow_rules/0/request/path",
            "the fields here are paths, headers",
        ),
        (
            rule(r#","request":{"paths":["/a/*","*/x/*"]}"#),
            "/allow_rules/0/request/paths/1",
            "a star at both ends",
        ),
        (
            rule(r#","request":{"paths":[["/a/b"]]}"#),
            "/allow_rules/0/request/paths/0",
            "expected a string, found an array",
        ),
        (
            rule(r#","request":{"headers":{}}"#),
            "/allow_rules/0/request/headers",
            "expected an array",
        ),
        (
            header("{}"),
            "/allow_rules/0/request/headers/0",
            r#""key" is missing or empty"#,
        ),
        (
            header(r#"{"key":"k"}"#),
            "/allow_rules/0/request/headers/0",
            r#""values" is missing or empty"#,
        ),
        (
            header(r#"{"key":"k","values":[]}"#),
            "/allow_rules/0/request/headers/0",
            r#""values" is missing or empty"#,
        ),
        (
            header(r#"{"key":"k","values":null}"#),
            "/allow_rules/0/request/headers/0/values",
            "expected an array",
        ),
        (
            header(r#"{"key":"k","values":["*v*"]}"#),
            "/allow_rules/0/request/headers/0/values/0",
            "a star at both ends",
        ),
        (
            header(r#"{"key":"k","value":["v"]}"#),
            "/allow_rules/0/request/headers/0/value",
            "unknown field",
        ),
        (key(""), at_key, r#""key" is missing or empty"#),
        (key(":path"), at_key, "belongs to the transport"),
        (key("grpc-timeout"), at_key, "belongs to the transport"),
        (key("GRPC-x"), at_key, "belongs to the transport"),
        (key("Host"), at_key, "belongs to the transport"),
        (key("TE"), at_key, "belongs to the transport"),
        (
            key("Proxy-Authenticate"),
            at_key,
            "belongs to the transport",
        ),
        (key("a b"), at_key, "is not a header name"),
        (key("é"), at_key, "is not a header name"),
        (
            audit("null"),
            "/audit_logging_options",
            "expected an object",
        ),
        (
            audit(r#"{"audit_condition":"on_deny"}"#),
            "/audit_logging_options/audit_condition",
            "unknown audit condition",
        ),
        (
            audit(r#"{"audit_condition":1}"#),
            "/audit_logging_options/audit_condition",
            "expected a string",
        ),
        (
            audit(r#"{"audit_logger":[]}"#),
            "/audit_logging_options/audit_logger",
            "unknown field",
        ),
        (
            logger(r#"{"name":""}"#),
            "/audit_logging_options/audit_loggers/0",
            r#""name" is missing or empty"#,
        ),
        (
            logger(r#"{"name":"syslog"}"#),
            "/audit_logging_options/audit_loggers/0",
            "no audit logger is registered",
        ),
        (
            logger(r#"{"name":"syslog","is_optional":"true"}"#),
            "/audit_logging_options/audit_loggers/0/is_optional",
            "expected a boolean",
        ),
        (
            logger(r#"{"name":"stdout_logger","config":null}"#),
            "/audit_logging_options/audit_loggers/0/config",
            "expected an object",
        ),
        (
            logger(r#"{"name":"stdout_logger","config":{"a":{"b":1,"b":2}}}"#),
            "/audit_logging_options/audit_loggers/0/config/a/b",
            "is repeated",
        ),
        (
            logger(r#"{"name":"file_logger"}"#),
            "/audit_logging_options/audit_loggers/0",
            "path must be the name of a file",
        ),
        (
            logger(r#"{"name":"file_logger","config":{"path":"a","size":1},"is_optional":true}"#),
            "/audit_logging_options/audit_loggers/0",
            "unknown field",
        ),
        (
            logger(r#"{"name":"tracing_logger","config":{"a":1}}"#),
            "/audit_logging_options/audit_loggers/0",
            "it has no configuration",
        ),
    ] {
        let invalid = refusal(&text);
        let short: String = text.chars().take(100).collect();
        assert_eq!(invalid.pointer, pointer, "{short}: {invalid}");
        assert!(
            invalid.fault.to_string().contains(reason),
            "{short}: {invalid}"
        );
        assert!(
            !invalid.to_string().chars().any(char::is_control),
            "{invalid:?}"
        );
    }
}

#[test]
fn two_rules_of_one_name_are_refused_with_both_lines() {
    let text = "{\"name\": \"p\",\n\"deny_rules\": [\n{\"name\": \"d\"},\n{\"name\": \"e\"},\n{\"name\": \"d\"}],\n\"allow_rules\": [{\"name\": \"d\"}]}";
    assert_eq!(
        refusal(text).to_string(),
        "line 5: /deny_rules/2: the rule on line 3 has the same name, \"d\": names must be unique in a list"
    );
}

#[test]
fn what_is_not_json_is_refused_on_its_line() {
    assert_eq!(
        refusal("{\n\"name\": \"p\",\n\"allow_rules\": [,]}").line,
        3
    );
}

#[test]
fn what_the_standard_allows_is_accepted() {
    for rest in [
        r#","deny_rules":[]"#,
        r#","audit_logging_options":{}"#,
        r#","audit_logging_options":{"audit_condition":"NONE","audit_loggers":[]}"#,
        r#","audit_logging_options":{"audit_loggers":[{"name":"syslog","is_optional":true}]}"#,
        r#","audit_logging_options":{"audit_loggers":[{"name":"stdout_logger","config":{"ignored":[1]}}]}"#,
        r#","deny_rules":[{"name":"d","source":{},"request":{}}]"#,
        r#","deny_rules":[{"name":"d","source":{"principals":[]},"request":{"paths":[],"headers":[]}}]"#,
    ] {
        let text = format!(r#"{{"name":"p","allow_rules":[{{"name":"r"}}]{rest}}}"#);
        Policy::parse(text.as_bytes()).unwrap();
    }
}

#[test]
fn a_mebibyte_of_rules_is_decided_and_loggers_can_be_added() {
    let rules: Vec<String> = (0..10_000)
        .map(|at| format!(r#"{{"name":"r{at}","request":{{"paths":["/a.S{at}/M","/a.S{at}/N","/b.S{at}/*"]}},"source":{{"principals":["spiffe://t/{at}"]}}}}"#))
        .collect();
    let text = format!(
        r#"{{"name":"p","allow_rules":[{}],"audit_logging_options":{{"audit_loggers":[{{"name":"ours"}}]}}}}"#,
        rules.join(",")
    );
    assert!(text.len() > 1 << 20);
    let mut loggers = Loggers::built_in();
    loggers.register("ours", |_| Err("not today".into()));
    let refused = Policy::parse_with(text.as_bytes(), &loggers).unwrap_err();
    assert!(refused.to_string().contains("not today"));
    let text = text.replace("ours", "stdout_logger");
    Policy::parse(text.as_bytes()).unwrap();
}
