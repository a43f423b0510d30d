//! Requests that no gRPC client sends: none of them reaches a handler that a rule denies.

use prost::Message as _;
use serde_json::json;
use test_contract::v1::{EchoRequest, RecordRequest};

use crate::raw::{self, Frames, header_block};
use crate::world::{Pki, Server, eventually_async};

const RECORD: &str = "/countersign.test.v1.EchoService/Record";
const GET: &str = "/countersign.test.v1.EchoService/Echo";
const TEXT: &str = "guarded";

/// What comes back for a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A message, so a handler has run.
    Message(Vec<u8>),
    /// A status alone.
    Status,
    /// The stream was reset, or the connection ended, below gRPC.
    Refused,
}

/// Sends one request on a connection of its own.
async fn ask(pki: &Pki, server: &Server, fields: &[(&str, &[u8])], message: &[u8]) -> Answer {
    let mut frames = Frames::open(pki, "orders", server.address).await;
    let block = header_block(fields);
    frames.send(raw::HEADERS, raw::END_HEADERS, 1, &block).await;
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    frames.send(raw::DATA, raw::END_STREAM, 1, &body).await;
    let mut data = Vec::new();
    while let Some(frame) = frames.next().await {
        match frame.kind {
            raw::GOAWAY => return Answer::Refused,
            raw::RST_STREAM if frame.stream == 1 => return Answer::Refused,
            raw::DATA => data.extend(frame.payload),
            _ => {}
        }
        let of_answer = frame.stream == 1 && matches!(frame.kind, raw::HEADERS | raw::DATA);
        if of_answer && frame.flags & raw::END_STREAM != 0 {
            return match data.is_empty() {
                true => Answer::Status,
                false => Answer::Message(data),
            };
        }
    }
    Answer::Refused
}

/// The fields of a well-formed request.
fn request(path: &[u8]) -> Vec<(&'static str, &[u8])> {
    vec![
        (":method", b"POST"),
        (":scheme", b"https"),
        (":path", path),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ]
}

fn text() -> Vec<u8> {
    let text = TEXT.to_owned();
    RecordRequest { text }.encode_to_vec()
}

async fn recorded(pki: &Pki, server: &Server) -> u64 {
    let mut auditor = pki.client("auditor", server.address);
    let answer = auditor.echo(EchoRequest::default()).await.unwrap();
    answer.into_inner().recorded
}

/// Lets everybody call everything, but orders record.
fn policy(denied: &[&str]) -> String {
    let rule = json!({"name": "not-this", "source": {"principals": ["spiffe://acme.test/orders"]}, "request": {"paths": denied}});
    let deny = if denied.is_empty() {
        json!([])
    } else {
        json!([rule])
    };
    json!({"name": "guard", "deny_rules": deny, "allow_rules": [{"name": "all", "source": {"principals": ["*"]}}]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_reaches_the_handler_that_a_rule_denies() {
    let pki = Pki::new();
    let file = pki.dir.path().join("policy.json");
    std::fs::write(&file, policy(&[RECORD])).unwrap();
    let server = Server::start(&pki, &["--reflection", "--policy", file.to_str().unwrap()]);
    // The same bytes reach a handler that no rule denies, and the denied one is denied by its own name.
    let get = EchoRequest {
        text: TEXT.to_owned(),
    };
    let got = ask(
        &pki,
        &server,
        &request(GET.as_bytes()),
        &get.encode_to_vec(),
    )
    .await;
    assert!(
        matches!(&got, Answer::Message(said) if said.windows(TEXT.len()).any(|it| it == TEXT.as_bytes())),
        "{got:?}"
    );
    let path = RECORD.as_bytes();
    assert_eq!(
        ask(&pki, &server, &request(path), &text()).await,
        Answer::Status
    );
    server.log.wait(|line| {
        line["reason"] == "POLICY_DENIED" && line["rule"] == "not-this" && line["method"] == RECORD
    });

    let unslashed = RECORD.strip_prefix('/').unwrap();
    let (service, method) = unslashed.split_once('/').unwrap();
    for spelling in [
        unslashed.to_owned(),
        format!("/{RECORD}"),
        format!("//{RECORD}"),
        format!("{RECORD}/"),
        format!("{RECORD}//"),
        format!("/{service}//{method}"),
        format!("{RECORD}?"),
        format!("{RECORD}?x=1"),
        format!("{RECORD}#"),
        format!("{RECORD}#x"),
        format!("{RECORD};x"),
        format!("{RECORD} "),
        format!(" {RECORD}"),
        format!("{RECORD}\t"),
        format!("{RECORD}\0"),
        format!("{RECORD}\r\nx: y"),
        format!("/.{RECORD}"),
        format!("/x/..{RECORD}"),
        format!("/{service}/./{method}"),
        format!("/{service}/%52ecord"),
        format!("/{service}%2F{method}"),
        format!("/{service}\\{method}"),
        RECORD.to_lowercase(),
        RECORD.to_uppercase(),
        format!("https://localhost{RECORD}"),
        format!("localhost{RECORD}"),
        "/".to_owned(),
        "*".to_owned(),
        String::new(),
    ] {
        let answer = ask(&pki, &server, &request(spelling.as_bytes()), &text()).await;
        assert!(!matches!(answer, Answer::Message(_)), "{spelling:?}");
    }
    let not_text = [path, &[0xff]].concat();
    assert_ne!(
        ask(&pki, &server, &request(&not_text), &text()).await,
        Answer::Message(Vec::new())
    );

    // What is left out, said twice or in another place is not HTTP.
    let get_path = GET.as_bytes();
    let with = |at: usize, field: (&'static str, &'static [u8])| {
        let mut fields = request(get_path);
        fields.insert(at, field);
        fields
    };
    let without = |name: &str| {
        let mut fields = request(path);
        fields.retain(|(field, _)| *field != name);
        fields
    };
    let record: &'static [u8] = RECORD.as_bytes();
    for fields in [
        with(2, (":path", record)),
        with(3, (":path", record)),
        with(6, (":path", record)),
        with(1, (":method", b"POST")),
        with(6, ("Upper", b"case")),
        with(6, ("connection", b"close")),
        with(6, ("transfer-encoding", b"chunked")),
        with(6, (":unknown", b"x")),
        without(":path"),
        without(":method"),
        without(":scheme"),
    ] {
        let answer = ask(&pki, &server, &fields, &text()).await;
        assert_eq!(answer, Answer::Refused, "{fields:?}");
    }
    assert_eq!(
        recorded(&pki, &server).await,
        0,
        "a handler ran that a rule denies"
    );

    // It is the rule that held them off, and nothing else.
    std::fs::write(&file, policy(&[])).unwrap();
    eventually_async("the handler runs without the rule", || async {
        let answer = ask(&pki, &server, &request(path), &text()).await;
        matches!(answer, Answer::Message(_)).then_some(())
    })
    .await;
    assert_eq!(recorded(&pki, &server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_method_is_unimplemented_and_counted_apart() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    for path in [
        "//countersign.test.v1.EchoService/Echo",
        "/countersign.test.v1.EchoService/Echo?x",
    ] {
        assert_eq!(
            ask(&pki, &server, &request(path.as_bytes()), &[]).await,
            Answer::Status
        );
        let line = server.log.wait(|line| line["path"] == path);
        assert_eq!(line["message"], "a path that is not /service/method");
        assert_eq!(line["principal"], "spiffe://acme.test/orders");
    }
    assert_eq!(
        server.log.count(|line| line["message"] == "call refused"),
        0
    );
}
