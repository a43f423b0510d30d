//! The programs from the command line: exit codes, output, and what is left after a crash.

mod start;

use std::fs;
use std::process::{Command, Stdio};

use cli::pki::Authority;
use proto::inventory::v1::reserve_many_response::Result as Answer;
use proto::inventory::v1::{
    GetItemRequest, ImportItemsRequest, Item, Reservation, ReserveManyRequest,
};
use serde_json::Value;
use tonic::{Code, Status};
use uuid::Uuid;

use harness::world::{Ending, Pki, Server, command, eventually, hour, in_repository, program, run};

use crate::world::{caller, pki, spec, start, start_as};

const PLENTY: &str = "PLENTY-1";

/// What a program said at its end.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn client(pki: &Pki, server: &Server, identity: &str, args: &[&str]) -> Ended {
    let target = format!("https://localhost:{}", server.address.port());
    let tls_dir = pki.dir(identity);
    let usual = ["--target", &target, "--tls-dir", tls_dir.to_str().unwrap()];
    let output = run("client", usual.iter().chain(args));
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn import(pki: &Pki, server: &Server) {
    let item = ImportItemsRequest {
        sku: PLENTY.to_owned(),
        name: "An item that never runs out".to_owned(),
        quantity: 1_000_000,
    };
    let mut catalog = caller(pki, "catalog", server.address);
    catalog
        .import_items(tokio_stream::iter([item]))
        .await
        .unwrap();
}

// The client inside this process must answer while the test waits for others.
#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_and_the_text_say_who_was_refused_and_by_whom() {
    let pki = pki();
    let stranger = Authority::root("stranger", hour()).unwrap();
    pki.install("stranger", &stranger.issue(&spec("orders")).unwrap());
    pki.install("doubter", &stranger.issue(&spec("orders")).unwrap());
    pki.put("doubter", "ca.crt", stranger.certificate_pem());
    let mut server = start(&pki, &[]);
    import(&pki, &server).await;

    let answered = client(&pki, &server, "orders", &["get-item", PLENTY]);
    assert_eq!(answered.code, Some(0), "{}", answered.stderr);
    assert!(answered.stdout.contains(PLENTY), "{}", answered.stdout);

    let denied = client(&pki, &server, "marketing", &["get-item", PLENTY]);
    assert_eq!(denied.code, Some(77), "{}", denied.stderr);
    for said in [
        "GetItem",
        "spiffe://acme.test/marketing",
        "PERMISSION_DENIED",
    ] {
        assert!(denied.stderr.contains(said), "{said}: {}", denied.stderr);
    }

    let audited = server
        .stdout
        .wait(|line| line["grpc_audit_log"]["authorized"] == false);
    assert_eq!(
        audited["grpc_audit_log"]["principal"],
        "spiffe://acme.test/marketing"
    );

    let refused = client(&pki, &server, "stranger", &["get-item", PLENTY]);
    assert_eq!(refused.code, Some(77), "{}", refused.stderr);
    for said in ["it refused our certificate", "UnknownCA", "localhost"] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }

    let logged = |line: &Value| line["code"] == "UNKNOWN_ISSUER" && line["level"] == "WARN";
    server.log.wait(logged);
    assert_eq!(server.log.count(logged), 1);

    let doubted = client(&pki, &server, "doubter", &["get-item", PLENTY]);
    assert_eq!(doubted.code, Some(69), "{}", doubted.stderr);
    for said in ["we refused its certificate", "unknown issuer"] {
        assert!(doubted.stderr.contains(said), "{said}: {}", doubted.stderr);
    }

    let (head, _) = harness::scrape::get(server.admin, "/readyz");
    assert!(head.contains("200 OK"), "{head}");
    server.signal("TERM");
    assert!(server.wait().success());
    let unreachable = client(&pki, &server, "orders", &["get-item", PLENTY]);
    assert_eq!(unreachable.code, Some(69), "{}", unreachable.stderr);
    assert!(
        unreachable.stderr.contains("refused"),
        "{}",
        unreachable.stderr
    );
}

#[tokio::test]
async fn a_malformed_row_is_named_and_nothing_of_its_file_is_imported() {
    let pki = pki();
    let server = start(&pki, &[]);
    let file = pki.dir.path().join("items.csv");
    fs::write(&file, "sku,name,quantity\nGOOD-1,Good,5\nBAD-1,Bad,many\n").unwrap();
    let refused = client(
        &pki,
        &server,
        "catalog",
        &["import", file.to_str().unwrap()],
    );
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
    for said in ["items.csv", "line 3", "quantity"] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    let absent = client(&pki, &server, "catalog", &["get-item", "GOOD-1"]);
    assert_eq!(absent.code, Some(1), "{}", absent.stderr);
    assert!(absent.stderr.contains("NOT_FOUND"), "{}", absent.stderr);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_is_there_once() {
    const BEFORE_THE_KILL: usize = 300;
    let pki = pki();
    let mut server = start(&pki, &[]);
    import(&pki, &server).await;

    let asked: Vec<_> = (0..2_000)
        .map(|_| ReserveManyRequest {
            reservation_id: Uuid::now_v7().to_string(),
            sku: PLENTY.to_owned(),
            quantity: 1,
        })
        .collect();
    let mut acknowledged = Vec::new();
    let broken = reserve(&pki, &server, &asked, |made| {
        acknowledged.push(made);
        if acknowledged.len() == BEFORE_THE_KILL {
            server.signal("KILL");
        }
    })
    .await;
    broken.unwrap_err();
    assert!(acknowledged.len() >= BEFORE_THE_KILL);
    server.wait();

    let server = start(&pki, &[]);
    let survived = reserved(&pki, &server).await as usize;
    assert!(
        (acknowledged.len()..=asked.len()).contains(&survived),
        "{survived}"
    );
    // What was not acknowledged may have been made or not; asked for again, each is there once.
    let mut again = Vec::new();
    reserve(&pki, &server, &asked, |made| again.push(made))
        .await
        .unwrap();
    assert_eq!(again.len(), asked.len());
    assert_eq!(again[..acknowledged.len()], acknowledged);
    assert_eq!(reserved(&pki, &server).await as usize, asked.len());
}

/// Makes reservations over one stream, and gives each answer to `made` until the stream ends.
async fn reserve(
    pki: &Pki,
    server: &Server,
    requests: &[ReserveManyRequest],
    mut made: impl FnMut(Reservation),
) -> Result<(), Status> {
    let mut orders = caller(pki, "orders", server.address);
    let requests = tokio_stream::iter(requests.to_vec());
    let mut answers = orders.reserve_many(requests).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let Some(Answer::Reservation(reservation)) = answer.result else {
            panic!("{answer:?}")
        };
        made(reservation);
    }
    Ok(())
}

async fn reserved(pki: &Pki, server: &Server) -> u32 {
    let request = GetItemRequest {
        sku: PLENTY.to_owned(),
    };
    let mut orders = caller(pki, "orders", server.address);
    let answer = orders.get_item(request).await.unwrap().into_inner();
    let Some(Item { reserved, .. }) = answer.item else {
        panic!("{answer:?}")
    };
    reserved
}

/// A full disk, as a file that may not grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_store_nothing_more_stops_and_says_that_it_failed() {
    let pki = pki();
    let mut limited = in_repository(Command::new("sh"));
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\""])
        .arg(program("server"));
    let mut server = start_as(limited, &pki, &[]);
    let mut catalog = caller(&pki, "catalog", server.address);
    let refused = loop {
        let items = std::iter::repeat_with(|| ImportItemsRequest {
            sku: Uuid::now_v7().to_string(),
            name: "An item that takes its place on the disk".repeat(4),
            quantity: 1,
        });
        let items = tokio_stream::iter(items.take(5_000));
        if let Err(refused) = catalog.import_items(items).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::Internal, "{refused}");
    assert_eq!(server.wait().code(), Some(1));
    server.log.wait(|line| {
        line.as_str()
            .is_some_and(|said| said.contains("the data file cannot be written"))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_fills_the_queue_of_writes_leaves_places_for_others() {
    let pki = pki();
    let server = start(&pki, &[]);
    import(&pki, &server).await;
    let (said, mut is_loud) = tokio::sync::mpsc::channel(1);
    let mut loud = tokio::task::JoinSet::new();
    // Fewer calls than one identity may have open, on two connections.
    for _ in 0..2 {
        let orders = caller(&pki, "orders", server.address);
        for _ in 0..60 {
            let (mut orders, said) = (orders.clone(), said.clone());
            loud.spawn(async move {
                let reservations = std::iter::repeat_with(|| ReserveManyRequest {
                    reservation_id: Uuid::now_v7().to_string(),
                    sku: PLENTY.to_owned(),
                    quantity: 1,
                });
                let reservations = tokio_stream::iter(reservations);
                let mut answers = orders.reserve_many(reservations).await?.into_inner();
                while let Some(answer) = answers.message().await? {
                    if matches!(&answer.result, Some(Answer::Failure(it)) if it.reason == "STORE_BUSY") {
                        said.try_send(()).ok();
                    }
                }
                Ok::<_, Status>(())
            });
        }
    }
    is_loud.recv().await.unwrap();
    let mut catalog = caller(&pki, "catalog", server.address);
    for n in 0..100 {
        let item = ImportItemsRequest {
            sku: format!("QUIET-{n}"),
            name: "quiet".to_owned(),
            quantity: 1,
        };
        catalog
            .import_items(tokio_stream::iter([item]))
            .await
            .unwrap();
    }
    loud.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_in_time_holds_back_neither_another_nor_the_end_of_the_client()
{
    let pki = pki();
    let server = start(&pki, &[]);
    import(&pki, &server).await;
    let source = pki.dir.path().join("slow.c");
    let library = pki.dir.path().join("slow.so");
    fs::write(&source, NAME_SERVICE_THAT_HANGS).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source]);
    assert!(compiler.status().unwrap().success());
    let targets = format!(
        "https://slow.test:1,https://localhost:{}",
        server.address.port()
    );
    let mut client = Ending(
        command("client")
            .env("LD_PRELOAD", &library)
            .args(["--target", &targets, "--tls-dir"])
            .arg(pki.dir("orders"))
            .args(["get-item", PLENTY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let ended = eventually("the client ends", || client.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

/// Of one name; for the others it is the system's.
const NAME_SERVICE_THAT_HANGS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    if (name && !strcmp(name, "slow.test")) for (;;) pause();
    return ((look_up *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
"#;
