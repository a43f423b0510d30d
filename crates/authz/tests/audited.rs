//! The audit log: one event per decided call, when the policy asks for it, and never at the call's cost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_authz::{
    AuditEvent, AuditLogger, Authorization, Caller, LivePolicy, Loggers, Policy,
};
use http::Request;
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Keeping(Arc<Mutex<Vec<AuditEvent>>>);

impl AuditLogger for Keeping {
    fn log(&self, event: &AuditEvent) -> io::Result<()> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

fn policy(condition: &str, loggers: &Value) -> Value {
    json!({
        "name": "authz",
        "deny_rules": [{"name": "no_put", "request": {"paths": ["/a.S/Put"]}}],
        "allow_rules": [{"name": "get", "request": {"paths": ["/a.S/Get"]}}],
        "audit_logging_options": {"audit_condition": condition, "audit_loggers": loggers},
    })
}

fn authorization(policy: &Value, loggers: &Loggers) -> Authorization {
    let policy = Policy::parse_with(policy.to_string().as_bytes(), loggers).unwrap();
    Authorization::new(LivePolicy::new(policy))
}

/// Calls, and returns the id that a denied caller is told.
fn call(authorization: &Authorization, caller: Caller, path: &str) -> Option<String> {
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().unwrap();
    let refusal = authorization.gate(caller).admit(None, &request).err()?;
    Some(refusal.get_details_error_info()?.metadata["decision_id"].clone())
}

fn by_dns() -> Caller {
    Caller::Authenticated {
        uri_sans: vec![],
        dns_sans: vec!["a.test".into()],
        subject: String::new(),
    }
}

#[test]
fn each_condition_has_its_events() {
    for (condition, expected) in [
        ("NONE", vec![]),
        ("ON_DENY", vec!["no_put", ""]),
        ("ON_ALLOW", vec!["get"]),
        ("ON_DENY_AND_ALLOW", vec!["get", "no_put", ""]),
    ] {
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut loggers = Loggers::built_in();
        let kept = Arc::clone(&events);
        loggers.register("keep", move |_| Ok(Arc::new(Keeping(Arc::clone(&kept)))));
        let authorization = authorization(&policy(condition, &json!([{"name": "keep"}])), &loggers);
        let mut ids = Vec::new();
        for path in ["/a.S/Get", "/a.S/Put", "/a.S/Other", "/a.S"] {
            ids.extend(call(&authorization, by_dns(), path));
        }
        assert!(authorization.audit().flush(PATIENCE));
        let events = events.lock().unwrap();
        let rules: Vec<&str> = events
            .iter()
            .map(|event| event.matched_rule.as_str())
            .collect();
        assert_eq!(rules, expected, "{condition}");
        for event in events.iter() {
            assert_eq!(
                (event.policy_name.as_str(), event.principal.as_str()),
                ("authz", "a.test")
            );
            assert_eq!(event.authorized, event.matched_rule == "get");
            assert_eq!(event.authorized, event.rpc_method == "/a.S/Get");
            assert_eq!(
                event.authorized,
                !ids.contains(&event.decision_id.to_string()),
                "the id is the caller's"
            );
        }
    }
}

#[test]
fn every_logger_gets_every_event_as_one_line_and_a_rotated_file_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.log"), dir.path().join("b.log"));
    let loggers = json!([
        {"name": "file_logger", "config": {"path": a}},
        {"name": "file_logger", "config": {"path": b}},
        {"name": "not_registered", "is_optional": true},
    ]);
    let authorization = authorization(&policy("ON_DENY_AND_ALLOW", &loggers), &Loggers::built_in());
    let hostile = "CN=\"}\n\u{1b}[2J,O=\\\\";
    let caller = Caller::Authenticated {
        uri_sans: vec![],
        dns_sans: vec![],
        subject: hostile.into(),
    };
    call(&authorization, caller, "/a.S/Get");
    assert!(authorization.audit().flush(PATIENCE));
    fs::rename(&a, dir.path().join("a.log.1")).unwrap();
    call(&authorization, by_dns(), "/a.S/Put");
    assert!(authorization.audit().flush(PATIENCE));

    assert_eq!(fs::read_to_string(&b).unwrap().lines().count(), 2);
    let line = fs::read_to_string(dir.path().join("a.log.1")).unwrap();
    let event: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap();
    let fields = &event["grpc_audit_log"];
    assert_eq!(fields["principal"], hostile);
    assert_eq!(
        (
            &fields["rpc_method"],
            &fields["policy_name"],
            &fields["matched_rule"],
            &fields["authorized"]
        ),
        (
            &json!("/a.S/Get"),
            &json!("authz"),
            &json!("get"),
            &json!(true)
        )
    );
    assert!(fields["timestamp"].as_str().unwrap().ends_with('Z'));
    let rotated: Value = serde_json::from_str(&fs::read_to_string(&a).unwrap()).unwrap();
    assert_eq!(rotated["grpc_audit_log"]["matched_rule"], "no_put");
    assert_eq!(authorization.audit().counts().written.get(), 4);
}

/// A logger that waits for leave to write.
#[derive(Debug)]
struct Stuck {
    reached: SyncSender<()>,
    leave: Mutex<Receiver<()>>,
}

impl AuditLogger for Stuck {
    fn log(&self, _: &AuditEvent) -> io::Result<()> {
        self.reached.try_send(()).ok();
        self.leave.lock().unwrap().recv().map_err(io::Error::other)
    }
}

#[test]
fn a_stuck_logger_holds_no_call_up_and_what_it_loses_is_counted() {
    let (reached, stuck) = sync_channel(1);
    let (leave, waits) = sync_channel(0);
    let waits = Mutex::new(Some(waits));
    let mut loggers = Loggers::built_in();
    loggers.register("stuck", move |_| {
        let leave = Mutex::new(waits.lock().unwrap().take().unwrap());
        Ok(Arc::new(Stuck {
            reached: reached.clone(),
            leave,
        }))
    });
    let authorization = authorization(&policy("ON_ALLOW", &json!([{"name": "stuck"}])), &loggers);
    call(&authorization, by_dns(), "/a.S/Get");
    stuck.recv_timeout(PATIENCE).unwrap();
    for _ in 0..8192 + 5 {
        call(&authorization, by_dns(), "/a.S/Get");
    }
    assert_eq!(authorization.audit().counts().dropped.get(), 5);
    assert!(!authorization.audit().flush(Duration::ZERO));
    drop(leave);
    while authorization.audit().counts().failed.get() < 8192 + 1 {
        std::thread::yield_now();
    }
    assert_eq!(authorization.audit().counts().written.get(), 0);
    assert_eq!(authorization.counts().allowed.get(), 8192 + 6);
}

#[test]
fn a_file_that_cannot_be_written_fails_no_call() {
    let loggers = json!([{"name": "file_logger", "config": {"path": "/nowhere/at/all"}}]);
    let authorization = authorization(&policy("ON_ALLOW", &loggers), &Loggers::built_in());
    assert!(call(&authorization, by_dns(), "/a.S/Get").is_none());
    assert!(authorization.audit().flush(PATIENCE));
    assert_eq!(authorization.audit().counts().failed.get(), 1);
}

#[test]
fn the_denials_of_a_caller_are_a_bounded_number_of_events_that_count_the_others() {
    let dns = |name: &str| Caller::Authenticated {
        uri_sans: vec![],
        dns_sans: vec![name.into()],
        subject: String::new(),
    };
    let uri = |name: &str| Caller::Authenticated {
        uri_sans: vec![name.into()],
        dns_sans: vec![],
        subject: String::new(),
    };
    let subject = |name: &str| Caller::Authenticated {
        uri_sans: vec![],
        dns_sans: vec![],
        subject: name.into(),
    };
    let many: Vec<String> = (0..400).map(|n| format!("/a.S/Other{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (what, callers, paths, bounded) in [
        ("one method", vec![dns("a")], vec!["/a.S/Other"; 400], 1),
        ("many methods", vec![dns("a")], many, 1),
        (
            "by a rule, and by none",
            vec![dns("a")],
            ["/a.S/Put", "/a.S/Other"].repeat(200),
            1,
        ),
        (
            "callers without a name are one",
            vec![subject(""), Caller::Anonymous, subject("")],
            vec!["/a.S/Put"; 400],
            1,
        ),
        (
            "each caller has its own",
            vec![dns("a"), dns("b"), dns("c")],
            vec!["/a.S/Put"; 400],
            3,
        ),
        (
            "one name in three places is three callers",
            vec![uri("a"), dns("a"), subject("a")],
            vec!["/a.S/Put"; 400],
            3,
        ),
        ("below the bound", vec![dns("a")], vec!["/a.S/Put"; 90], 0),
        (
            "who is allowed is not bounded",
            vec![dns("a")],
            vec!["/a.S/Get"; 400],
            0,
        ),
    ] {
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut loggers = Loggers::built_in();
        let kept = Arc::clone(&events);
        loggers.register("keep", move |_| Ok(Arc::new(Keeping(Arc::clone(&kept)))));
        let policy = policy("ON_DENY_AND_ALLOW", &json!([{"name": "keep"}]));
        let authorization = authorization(&policy, &loggers);
        for path in &paths {
            for caller in &callers {
                call(&authorization, caller.clone(), path);
            }
        }
        assert!(authorization.audit().flush(PATIENCE));
        let events = events.lock().unwrap();
        let left_out: u64 = events.iter().map(|event| event.left_out).sum();
        let calls = paths.len() * callers.len();
        assert_eq!(
            events.len() + usize::try_from(left_out).unwrap(),
            calls,
            "{what}"
        );
        match bounded {
            0 => assert_eq!(events.len(), calls, "{what}"),
            // The burst, one each second of the test, and the last with the count of the others.
            _ => assert!(
                (101 * bounded..110 * bounded).contains(&events.len()),
                "{what}"
            ),
        }
    }
}
