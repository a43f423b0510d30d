//! A server process that has its identity from an agent.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::identity::Role;
use test_contract::v1::EchoRequest;
use tonic::Code;

use crate::agent::{Agent, Domain, Says, answer};
use crate::example_process::ExampleProcess;
use crate::{ACME, client, open};

/// A server that has its identity from the agent that `variable` names.
fn serve(variable: &str, agent: &str, policy: &Path) -> ExampleProcess {
    let policy = policy.to_str().unwrap();
    let variables = [(variable, agent), ("APP_AUTHZ_POLICY_FILE", policy)];
    ExampleProcess::start("serve", &variables)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_callers_live_by_their_agents_alone() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"name": "echo", "allow_rules": [
            {"name": "orders", "source": {"principals": ["spiffe://acme.test/orders"]}}]}"#,
    )
    .unwrap();
    let acme = Domain::new(ACME);
    let servers = Agent::saying(answer(vec![acme.svid("echo")], &[]));
    for variable in ["APP_TLS_WORKLOAD_API", "SPIFFE_ENDPOINT_SOCKET"] {
        let serve = serve(variable, &servers.address(), &policy);
        let address = serve.address();
        for (workload, code) in [("orders", Code::Ok), ("marketing", Code::PermissionDenied)] {
            let callers = Agent::saying(answer(vec![acme.svid(workload)], &[]));
            let trust = open(Role::Client, callers.api()).unwrap();
            let mut client = client(trust, address, "spiffe://acme.test/echo");
            let text = "hello".to_owned();
            let called = client.echo(EchoRequest { text }).await;
            let got = called.map_or_else(|status| status.code(), |_answer| Code::Ok);
            assert_eq!(got, code, "{workload}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_answers_a_second_are_one_line_and_the_last_of_them_counts() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"name": "echo", "allow_rules": [{"name": "all"}]}"#,
    )
    .unwrap();
    let acme = Domain::new(ACME);
    let good = || answer(vec![acme.svid("echo")], &[]);
    let agent = Agent::saying(good());
    let serve = serve("APP_TLS_WORKLOAD_API", &agent.address(), &policy);
    serve.logged("listening");

    let garbage = Says::Message(Bytes::from_static(b"\xff\xff\xff\xff garbage"));
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..200 {
        tick.tick().await;
        agent.says(garbage.clone());
    }
    agent.says(good());
    let lines = serve.logged("new credentials are available again");
    let said: Vec<_> = lines
        .iter()
        .filter(|line| line["level"] == "ERROR")
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["code"], "WORKLOAD_API_MALFORMED", "{said:?}");

    let rotations: Vec<_> = (0..20).map(|_| good()).collect();
    let began = Instant::now();
    for rotation in rotations.iter().cycle().take(200) {
        tick.tick().await;
        agent.says(rotation.clone());
    }
    let last = good();
    let leaf = acme.leaf(&["spiffe://acme.test/echo"]);
    let last_serial = leaf.serial.to_string();
    agent.says(answer(
        vec![acme.svid_of(&last.svids[0].spiffe_id, &leaf)],
        &[],
    ));
    let mut taken = 0;
    loop {
        let line = serve.logged("credentials in use").pop().unwrap();
        taken += 1;
        if line["serial"] == last_serial {
            break;
        }
    }
    // Three looks in each interval of 100 ms.
    let most = began.elapsed().as_millis() / 30 + 2;
    assert!(taken <= most, "{taken} of 200, at most {most}");
}
