//! The programs from the command line: exit codes, output, and what is left after a crash.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
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

/// What keeps the server from starting, and what its one line must say.
type FaultCase = (&'static str, fn(&Pki), &'static [&'static str]);

#[test]
fn a_server_that_cannot_start_says_which_file_is_wrong_and_binds_nothing() {
    let faults: &[FaultCase] = &[
        (
            "no directory",
            |pki| fs::remove_dir_all(pki.dir("inventory")).unwrap(),
            &[
                "tls.crt",
                "No such file",
                "; make development certificates with `cargo cs pki init`",
            ],
        ),
        (
            "no key",
            |pki| fs::remove_file(pki.dir("inventory").join("tls.key")).unwrap(),
            &["tls.key", "No such file"],
        ),
        (
            "a directory for a key",
            |pki| {
                let key = pki.dir("inventory").join("tls.key");
                fs::remove_file(&key).unwrap();
                fs::create_dir(key).unwrap();
            },
            &["tls.key", "not a regular file"],
        ),
        (
            "an empty key",
            |pki| pki.put("inventory", "tls.key", ""),
            &["tls.key", "no private key"],
        ),
        (
            "an encrypted key",
            |pki| {
                let label = "ENCRYPTED PRIVATE KEY";
                pki.put(
                    "inventory",
                    "tls.key",
                    format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"),
                );
            },
            &["tls.key", "encrypted", "openssl pkey"],
        ),
        (
            "another's key",
            |pki| {
                let other = fs::read(pki.dir("orders").join("tls.key")).unwrap();
                pki.put("inventory", "tls.key", other);
            },
            &["tls.key", "tls.crt", "pair is mixed"],
        ),
        (
            "an empty certificate",
            |pki| pki.put("inventory", "tls.crt", ""),
            &["tls.crt", "no certificate"],
        ),
        (
            "a truncated certificate",
            |pki| {
                let whole = fs::read_to_string(pki.dir("inventory").join("tls.crt")).unwrap();
                pki.put("inventory", "tls.crt", &whole[..200]);
            },
            &["tls.crt", "PEM"],
        ),
        (
            "a client's certificate",
            |pki| {
                for file in ["tls.crt", "tls.key"] {
                    let other = fs::read(pki.dir("orders").join(file)).unwrap();
                    pki.put("inventory", file, other);
                }
            },
            &["tls.crt", "serverAuth"],
        ),
        (
            "no root in the roots",
            |pki| pki.put("inventory", "ca.crt", "# none yet\n"),
            &["ca.crt", "no certificate"],
        ),
        (
            "an empty revocation list",
            |pki| pki.put("inventory", "crl.pem", ""),
            &["crl.pem", "no revocation list"],
        ),
        (
            "a revocation list that is a link to nowhere",
            |pki| {
                let link = pki.dir("inventory").join("crl.pem");
                std::os::unix::fs::symlink("..data/crl.pem", link).unwrap();
            },
            &["crl.pem", "it is a link to ..data/crl.pem"],
        ),
        (
            "no policy",
            |pki| fs::remove_file(pki.dir.path().join("policy.json")).unwrap(),
            &["policy.json", "No such file"],
        ),
        (
            "an invalid policy",
            |pki| fs::write(pki.dir.path().join("policy.json"), "{").unwrap(),
            &["policy.json", "line 1"],
        ),
        (
            "a policy for nothing",
            |pki| {
                let policy = r#"{"name":"p","allow_rules":[{"name":"a","request":{"paths":["/inventory.v1.InventoryService/GetItems"]}}]}"#;
                fs::write(pki.dir.path().join("policy.json"), policy).unwrap();
            },
            &[
                "policy.json",
                "/allow_rules/0/request/paths/0",
                "did you mean",
            ],
        ),
    ];
    for (fault, make, expected) in faults {
        let pki = pki();
        fs::copy(
            "../crates/server/policy.json",
            pki.dir.path().join("policy.json"),
        )
        .unwrap();
        make(&pki);
        for check in [true, false] {
            let line = refused_start(&pki, check, &[], &[]);
            for said in *expected {
                assert!(
                    line.contains(said),
                    "{fault}: {line:?} does not say {said:?}"
                );
            }
        }
        assert!(!pki.dir.path().join("inventory.redb").exists(), "{fault}");
    }
}

#[test]
fn a_server_that_cannot_start_says_which_setting_is_wrong() {
    let pki = pki();
    fs::copy(
        "../crates/server/policy.json",
        pki.dir.path().join("policy.json"),
    )
    .unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();

    let line = refused_start(&pki, true, &[("APP_LISTEN_ADR", "x")], &[]);
    assert!(
        line.contains("APP_LISTEN_ADR") && line.contains("APP_LISTEN_ADDR"),
        "{line}"
    );
    let line = refused_start(&pki, false, &[], &["--listen", &address]);
    assert!(
        line.contains(&address) && line.contains("another address"),
        "{line}"
    );
    let line = refused_start(&pki, false, &[], &["--admin-listen", &address]);
    assert!(
        line.contains(&address) && line.contains("another address"),
        "{line}"
    );
    let line = refused_start(&pki, true, &[], &["--max-connections", "0"]);
    assert!(line.contains("--max-connections"), "{line}");
}

#[test]
fn a_check_takes_its_flags_on_either_side_and_finds_a_data_file_that_cannot_be_written() {
    let pki = pki();
    let tls_dir = pki.dir("inventory");
    let tls = ["--tls-dir", tls_dir.to_str().unwrap()];
    let dir = pki.dir.path();
    let text = dir.join("text");
    fs::write(&text, "text").unwrap();
    let empty = dir.join("empty.redb");
    fs::write(&empty, "").unwrap();
    let good = dir.join("not/made/yet/inventory.redb");
    for (data, code, said) in [
        (good, 0, ""),
        (
            text.join("inventory.redb"),
            64,
            "the directory of the data file",
        ),
        (
            "/proc/none/inventory.redb".into(),
            64,
            "the directory of the data file",
        ),
        (empty, 64, "remove it to start with nothing"),
    ] {
        let data = ["--data", data.to_str().unwrap()];
        for args in [
            [&tls[..], &data, &["check"]].concat(),
            [&["check"][..], &tls, &data].concat(),
            [&data[..], &["check"], &tls].concat(),
        ] {
            let ended = run("server", &args);
            let stderr = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(code), "{args:?}: {stderr}");
            assert!(stderr.contains(said), "{args:?}: {stderr}");
        }
    }
    assert!(!dir.join("not").exists());
}

#[test]
fn a_process_that_gets_no_threads_says_so() {
    let pki = pki();
    let mut limited = in_repository(Command::new("sh"));
    // The stack of a thread takes a quarter of the address space, so that what is left when there is none for another is
    // enough to say so.
    limited
        .env("RUST_MIN_STACK", (1 << 30).to_string())
        .args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""])
        .arg(program("server"))
        .arg("--tls-dir")
        .arg(pki.dir("inventory"))
        .args(["--worker-threads", "4096", "check"]);
    let ended = limited.output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("4104 threads are needed"), "{stderr}");
    assert!(stderr.contains("--worker-threads"), "{stderr}");
}

/// Runs a server that must not start, and gives the line that it says.
fn refused_start(pki: &Pki, check: bool, env: &[(&str, &str)], args: &[&str]) -> String {
    let dir = pki.dir.path();
    let mut server = command("server");
    server.args(["--log-format", "json"]);
    if !args.contains(&"--listen") {
        server.args(["--listen", "127.0.0.1:0"]);
    }
    if !args.contains(&"--admin-listen") {
        server.args(["--admin-listen", "off"]);
    }
    server.arg("--tls-dir").arg(dir.join("inventory"));
    server.arg("--policy").arg(dir.join("policy.json"));
    server
        .arg("--data")
        .arg(dir.join("inventory.redb"))
        .args(args);
    if check {
        server.arg("check");
    }
    server.env("RUST_LOG", "error").envs(env.iter().copied());
    let child = server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let status = eventually("the server refuses to start", || {
        child.0.try_wait().unwrap()
    });
    let stderr = child.0.stderr.take().unwrap();
    let lines: Vec<_> = BufReader::new(stderr).lines().map(Result::unwrap).collect();
    assert_eq!(status.code(), Some(64), "{lines:?}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.concat()
}

#[test]
fn a_client_without_usable_credentials_sends_nothing_and_says_which_file_is_wrong() {
    let pki = pki();
    let key = fs::read(pki.dir("catalog").join("tls.key")).unwrap();
    pki.put("orders", "tls.key", key);
    let dir = pki.dir("orders");
    let args = ["--tls-dir", dir.to_str().unwrap(), "get-item", "X"];
    let output = run("client", args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("tls.key"), "{stderr}");
}
