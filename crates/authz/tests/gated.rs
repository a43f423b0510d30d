//! The policy before a call in parts: what is remembered is never another answer, and open calls are judged by headers
//! that only a later policy reads.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use countersign_authz::{Authorization, Caller, Gate, Head, LivePolicy, Policy};
use http::{HeaderValue, Request, Uri};
use tonic::Code;

const GET: &str = "/shop.v1.Shop/Get";
const ALL: &str = r#"{"name": "all", "allow_rules": [{"name": "all"}]}"#;
const NOBODY: &str =
    r#"{"name": "nobody", "allow_rules": [{"name": "x", "source": {"principals": ["x"]}}]}"#;
const ROLE: &str = r#"{"name": "role", "allow_rules": [
    {"name": "role", "request": {"headers": [{"key": "x-role", "values": ["op"]}]}}]}"#;
const AUDITED: &str = r#"{"name": "audited", "allow_rules": [{"name": "all"}], "audit_logging_options":
    {"audit_condition": "ON_ALLOW", "audit_loggers": [{"name": "tracing_logger"}]}}"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes()).unwrap()
}

fn request(path: &'static str, role: Option<&'static str>) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_static(path);
    if let Some(role) = role {
        let role = HeaderValue::from_static(role);
        request.headers_mut().insert("x-role", role);
    }
    request
}

fn gate(live: &LivePolicy) -> (Authorization, Gate) {
    let authorization = Authorization::new(live.clone());
    let caller = Caller::Authenticated {
        uri_sans: vec!["spiffe://t/op".to_owned()],
        dns_sans: Vec::new(),
        subject: String::new(),
    };
    let gate = authorization.gate(caller);
    (authorization, gate)
}

#[test]
fn a_remembered_allow_is_counted_and_allocates_nothing() {
    let (authorization, gate) = gate(&LivePolicy::new(policy(ALL)));
    let request = request(GET, None);
    gate.admit(Some(3), &request).unwrap();
    let again = allocation_counter::measure(|| assert!(gate.admit(Some(3), &request).is_ok()));
    assert_eq!(again.count_total, 0, "{again:?}");
    assert_eq!(authorization.counts().allowed.get(), 2);
}

#[test]
fn a_new_policy_forgets_what_the_old_one_allowed() {
    let live = LivePolicy::new(policy(ALL));
    let (_, gate) = gate(&live);
    let request = request(GET, None);
    gate.admit(Some(0), &request).unwrap();
    gate.admit(Some(0), &request).unwrap();
    live.replace(policy(NOBODY));
    let refusal = gate.admit(Some(0), &request).unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    live.replace(policy(ALL));
    gate.admit(Some(0), &request).unwrap();
}

#[test]
fn methods_that_share_a_place_in_memory_share_no_answer() {
    let only_get = r#"{"name": "get", "allow_rules": [{"name": "g", "request": {"paths": ["/shop.v1.Shop/Get"]}}]}"#;
    let (_, gate) = gate(&LivePolicy::new(policy(only_get)));
    for _ in 0..2 {
        gate.admit(Some(1), &request(GET, None)).unwrap();
        for other in [17, 33, 1 + (1 << 16)] {
            let refusal = gate.admit(Some(other), &request("/shop.v1.Shop/Put", None));
            assert_eq!(refusal.unwrap_err().code(), Code::PermissionDenied);
        }
    }
}

#[test]
fn a_query_is_never_the_method_that_was_remembered() {
    let (_, gate) = gate(&LivePolicy::new(policy(ALL)));
    gate.admit(Some(0), &request(GET, None)).unwrap();
    let refusal = gate.admit(Some(0), &request("/shop.v1.Shop/Get?x", None));
    assert_eq!(refusal.unwrap_err().code(), Code::Unimplemented);
}

#[test]
fn a_policy_that_reads_headers_is_asked_each_time() {
    let (_, gate) = gate(&LivePolicy::new(policy(ROLE)));
    gate.admit(Some(0), &request(GET, Some("op"))).unwrap();
    let refusal = gate.admit(Some(0), &request(GET, Some("guest")));
    assert_eq!(refusal.unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn an_allow_that_is_audited_is_audited_each_time() {
    let (authorization, gate) = gate(&LivePolicy::new(policy(AUDITED)));
    for _ in 0..3 {
        gate.admit(Some(0), &request(GET, None)).unwrap();
    }
    assert!(
        authorization
            .audit()
            .flush(std::time::Duration::from_secs(30))
    );
    // Nobody reads this test's log, which the logger says of each event.
    assert_eq!(authorization.audit().counts().failed.get(), 3);
}

#[test]
fn an_open_call_is_judged_by_headers_that_only_a_new_policy_reads() {
    for (role, kept) in [(Some("op"), true), (Some("guest"), false), (None, false)] {
        let live = LivePolicy::new(policy(ALL));
        let (_, gate) = gate(&live);
        let request = request(GET, role);
        let allowed = gate.admit(Some(0), &request).unwrap();
        let head = Head::of(&request);
        // Before anybody waits for it, and so before it could be told.
        live.replace(policy(ROLE));
        let mut refused = pin!(gate.refused(&allowed, &head));
        let mut cx = Context::from_waker(Waker::noop());
        match (refused.as_mut().poll(&mut cx), kept) {
            (Poll::Pending, true) => {}
            (Poll::Ready(status), false) => assert_eq!(status.code(), Code::PermissionDenied),
            (polled, _) => panic!("{role:?}: {polled:?}"),
        }
        // And while it is waited for.
        if kept {
            live.replace(policy(NOBODY));
            assert!(refused.as_mut().poll(&mut cx).is_ready());
        }
    }
}
