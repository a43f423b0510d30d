//! What a fault in the files of a server that runs does: the last good set stays in use, the log says once why not, and
//! the next good set is taken. The table of docs/security.md, row by row; `processes/start.rs` has the same faults at the
//! start.

use std::fs;
use std::time::Duration;

use cli::pki::{Authority, LeafSpec};
use serde_json::Value;
use test_contract::v1::EchoRequest;
use time::OffsetDateTime;
use tonic::{Code, Status};

use crate::world::{Pki, Server, hour, spec, validity};

const REFUSED: &str = "new credentials refused; the last good ones stay in use";
const IN_USE: &str = "credentials in use";

/// What is done to the files, and what the log must say of it.
type FaultCase = (&'static str, fn(&Pki), &'static [&'static str]);

const FAULTS: &[FaultCase] = &[
    (
        "half a certificate",
        |pki| cut(pki, "tls.crt"),
        &["tls.crt", "PEM"],
    ),
    ("half a key", |pki| cut(pki, "tls.key"), &["tls.key", "PEM"]),
    (
        "the certificate of one pair and the key of another",
        |pki| {
            let leaf = pki.issuing.issue(&spec("echo")).unwrap();
            pki.put("echo", "tls.crt", &leaf.chain_pem);
        },
        &["tls.key", "tls.crt", "from different pairs"],
    ),
    (
        "an expired leaf",
        |pki| {
            let now = OffsetDateTime::now_utc();
            let mut spec = spec("echo");
            spec.validity.not_before = now - Duration::from_secs(7200);
            spec.validity.not_after = now - Duration::from_secs(3600);
            install(pki, &spec);
        },
        &["tls.crt", "expired"],
    ),
    (
        "a leaf of a clock that is an hour ahead",
        |pki| {
            let now = OffsetDateTime::now_utc();
            let mut spec = spec("echo");
            spec.validity.not_before = now + Duration::from_secs(3600);
            spec.validity.not_after = now + Duration::from_secs(7200);
            install(pki, &spec);
        },
        &["tls.crt", "not valid before", "is a clock wrong?"],
    ),
    (
        "the leaf of another authority",
        |pki| {
            let other = Authority::root("other", hour()).unwrap();
            pki.install("echo", &other.issue(&spec("echo")).unwrap());
        },
        &["tls.crt", "trusted root"],
    ),
    (
        "no root in the roots",
        |pki| pki.put("echo", "ca.crt", "\n"),
        &["ca.crt", "no certificate"],
    ),
    (
        "an empty list",
        |pki| pki.put("echo", "crl.pem", ""),
        &["crl.pem", "no revocation list"],
    ),
    (
        "half a list",
        |pki| cut(pki, "crl.pem"),
        &["crl.pem", "cut off"],
    ),
    (
        "a list that is gone",
        |pki| fs::remove_file(pki.dir("echo").join("crl.pem")).unwrap(),
        &["crl.pem", "CN=test issuing", "restart to stop checking"],
    ),
    (
        "a list that is a link to nowhere",
        |pki| {
            let list = pki.dir("echo").join("crl.pem");
            fs::remove_file(&list).unwrap();
            std::os::unix::fs::symlink("nowhere", list).unwrap();
        },
        &["crl.pem", "it is a link to nowhere"],
    ),
    (
        "a list that is older",
        |pki| pki.put("echo", "crl.pem", pki.crl(1, &[])),
        &["crl.pem", "1 is lower than 2"],
    ),
    (
        "another list with the number of the one in force",
        |pki| {
            let hour_ago = OffsetDateTime::now_utc() - Duration::from_secs(3600);
            let next = hour_ago + Duration::from_secs(7200);
            pki.put("echo", "crl.pem", pki.crl_of(2, &[], hour_ago, next));
        },
        &["crl.pem", "the number 2 of the list in use"],
    ),
    (
        "a list with a higher number that was issued earlier",
        |pki| {
            let hour_ago = OffsetDateTime::now_utc() - Duration::from_secs(3600);
            let next = hour_ago + Duration::from_secs(7200);
            pki.put("echo", "crl.pem", pki.crl_of(3, &[], hour_ago, next));
        },
        &["crl.pem", "it was issued at", "before the list in use"],
    ),
    (
        "a list of the future",
        |pki| {
            let at = OffsetDateTime::now_utc() + Duration::from_secs(600);
            let next = at + Duration::from_secs(3600);
            pki.put("echo", "crl.pem", pki.crl_of(3, &[], at, next));
        },
        &["crl.pem", "CN=test issuing", "in the future"],
    ),
    (
        "a list with a foreign signature",
        |pki| {
            let forged = Pki::empty().crl(9, &[]);
            pki.put("echo", "crl.pem", forged);
        },
        &["crl.pem", "CN=test issuing did not sign it"],
    ),
    (
        "two lists for one issuer",
        |pki| {
            pki.put(
                "echo",
                "crl.pem",
                [pki.crl(3, &[]), pki.crl(4, &[])].concat(),
            )
        },
        &["crl.pem", "a second list"],
    ),
    (
        "a directory that is gone",
        |pki| fs::rename(pki.dir("echo"), pki.dir("away")).unwrap(),
        &["tls.crt", "No such file"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_the_files_is_said_once_and_the_last_good_ones_stay_in_use() {
    // A server writes ten lines of one kind in a second and counts the others, so that none gets more faults.
    for faults in FAULTS.chunks(8) {
        each_is_said_once(faults).await;
    }
}

async fn each_is_said_once(faults: &[FaultCase]) {
    let pki = Pki::new();
    pki.put("echo", "crl.pem", pki.crl(2, &[]));
    let server = Server::start(&pki, &[]);
    for (generation, (fault, make, expected)) in faults.iter().enumerate() {
        let good = Files::of(&pki);
        make(&pki);
        let refused = |line: &Value| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["message"] == REFUSED && expected.iter().all(|said| reason.contains(said))
        };
        let line = server.log.wait(refused);
        assert_eq!(line["level"], "ERROR", "{fault}");
        answered(&pki, &server, "orders").await;
        // Before files are put back one by one, which may look like another fault for a moment.
        assert_eq!(server.log.count(refused), 1, "{fault}");

        good.restore(&pki);
        let leaf = pki.issue("echo", &spec("echo"));
        let serial = leaf.serial.to_string();
        let taken = server
            .log
            .wait(|line| line["message"] == IN_USE && line["serial"] == serial.as_str());
        assert_eq!(taken["generation"], generation + 2, "{fault}");
        answered(&pki, &server, "orders").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_removed_takes_effect_even_when_it_is_our_own() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    answered(&pki, &server, "orders").await;
    let other = Authority::root("other", hour()).unwrap();
    pki.put("echo", "ca.crt", other.certificate_pem());
    let warned = server.log.wait(|line| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains("would refuse our certificate"))
    });
    assert_eq!(
        (&warned["level"], &warned["code"]),
        (&"WARN".into(), &"UNKNOWN_ISSUER".into())
    );
    let line = server.log.wait(|line| line["message"] == "not ready");
    assert_eq!(line["reason"], "own certificate not under our own roots");
    let refused = get(&pki, &server, "orders").await.unwrap_err();
    assert!(
        refused.message().contains("it refused our certificate"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_own_certificate_expires_is_not_ready_until_it_has_a_new_one() {
    let pki = Pki::new();
    let server = Server::start(&pki, &[]);
    let ready = || crate::scrape::get(server.admin, "/readyz");
    assert!(ready().0.contains("200 OK"));
    let mut short = spec("echo");
    short.validity = validity(Duration::from_secs(2));
    pki.issue("echo", &short);
    server.log.wait(|line| line["message"] == "not ready");
    let (head, body) = ready();
    assert!(head.contains("503"), "{head}");
    assert!(body.contains("own certificate expired"), "{body}");
    let status = get(&pki, &server, "orders").await.unwrap_err();
    assert!(
        status.message().contains("we refused its certificate"),
        "{status}"
    );

    pki.issue("echo", &spec("echo"));
    server.log.wait(|line| line["message"] == "ready");
    assert!(ready().0.contains("200 OK"));
    answered(&pki, &server, "orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_list_still_revokes_and_vouches_unless_it_is_told_not_to() {
    for (setting, accepted) in [(&[][..], true), (&["--tls-refuse-expired-crl"], false)] {
        let pki = Pki::new();
        let revoked = pki.issue("auditor", &spec("auditor"));
        let now = OffsetDateTime::now_utc();
        let list = pki.crl_of(
            1,
            &[&revoked],
            now - Duration::from_secs(7200),
            now - Duration::from_secs(3600),
        );
        pki.put("echo", "crl.pem", list);
        let server = Server::start(&pki, setting);
        server.log.wait(|line| {
            line["level"] == "WARN"
                && line["message"]
                    .as_str()
                    .is_some_and(|said| said.contains("list has expired"))
        });
        let orders = get(&pki, &server, "orders").await;
        if accepted {
            assert_eq!(orders.unwrap_err().code(), Code::NotFound);
        } else {
            assert_eq!(orders.unwrap_err().code(), Code::Unauthenticated);
            server.log.wait(|line| line["code"] == "CRL_EXPIRED");
        }
        let auditor = get(&pki, &server, "auditor").await.unwrap_err();
        assert_eq!(auditor.code(), Code::Unauthenticated, "{auditor}");
    }
}

/// A list of another issuer neither vouches for ours nor keeps it out.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_an_issuer_that_nobody_here_has_changes_nothing() {
    let pki = Pki::new();
    let foreign = Authority::root("foreign", hour()).unwrap();
    let now = OffsetDateTime::now_utc();
    let list = foreign
        .crl(1, &[], now, now + Duration::from_secs(3600))
        .unwrap();
    pki.put("echo", "crl.pem", list);
    let server = Server::start(&pki, &[]);
    answered(&pki, &server, "orders").await;
}

/// As Kubernetes mounts a Secret: links to files in a directory that is itself a link, which is swapped.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn as_many_roots_as_a_file_holds_keep_no_caller_out() {
    let pki = Pki::new();
    // Their names take more room than a handshake has for the names of authorities (RFC 8446 §4.2.4).
    let mut roots = pki.root.certificate_pem().to_owned();
    for number in 0..900 {
        let name = format!("{number:03} {}", "a long name ".repeat(5));
        let root = Authority::root(name.trim_end(), hour()).unwrap();
        roots.push_str(root.certificate_pem());
    }
    pki.put("echo", "ca.crt", roots);
    let server = Server::start(&pki, &[]);
    answered(&pki, &server, "orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_secret_is_read_through_its_swapped_link() {
    use std::os::unix::fs::symlink;
    let pki = Pki::new();
    let mount = pki.dir("mount");
    fs::create_dir(&mount).unwrap();
    let publish = |version: &str| {
        let leaf = pki.issue(version, &spec("echo"));
        fs::rename(pki.dir(version), mount.join(version)).unwrap();
        symlink(version, mount.join("next")).unwrap();
        fs::rename(mount.join("next"), mount.join("..data")).unwrap();
        leaf.serial.to_string()
    };
    publish("..1");
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        symlink(format!("..data/{file}"), mount.join(file)).unwrap();
    }
    let server = Server::start(&pki, &["--tls-dir", mount.to_str().unwrap()]);
    answered(&pki, &server, "orders").await;
    let second = publish("..2");
    server
        .log
        .wait(|line| line["message"] == IN_USE && line["serial"] == second.as_str());
    answered(&pki, &server, "orders").await;
}

/// As Kubernetes writes a pod certificate: one file, the key first and then the chain.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_key_and_chain_is_read_as_one_file() {
    let pki = Pki::new();
    let publish = || {
        let leaf = pki.issuing.issue(&spec("echo")).unwrap();
        pki.put(
            "echo",
            "bundle.pem",
            [leaf.key_pem, leaf.chain_pem].concat(),
        );
        leaf.serial.to_string()
    };
    publish();
    for file in ["tls.crt", "tls.key"] {
        fs::remove_file(pki.dir("echo").join(file)).unwrap();
    }
    let bundle = pki.dir("echo").join("bundle.pem");
    let server = Server::start(&pki, &["--tls-bundle", bundle.to_str().unwrap()]);
    answered(&pki, &server, "orders").await;
    let second = publish();
    server
        .log
        .wait(|line| line["message"] == IN_USE && line["serial"] == second.as_str());
    answered(&pki, &server, "orders").await;
}

fn cut(pki: &Pki, file: &str) {
    let whole = fs::read(pki.dir("echo").join(file)).unwrap();
    pki.put("echo", file, &whole[..whole.len() / 2]);
}

fn install(pki: &Pki, spec: &LeafSpec) {
    pki.install("echo", &pki.issuing.issue(spec).unwrap());
}

/// The files of the server, to put them back.
struct Files(Vec<(&'static str, Vec<u8>)>);

impl Files {
    fn of(pki: &Pki) -> Self {
        let read = |name| (name, fs::read(pki.dir("echo").join(name)).unwrap());
        Self(["tls.key", "tls.crt", "ca.crt", "crl.pem"].map(read).into())
    }

    fn restore(self, pki: &Pki) {
        fs::create_dir_all(pki.dir("echo")).unwrap();
        for (name, content) in self.0 {
            pki.put("echo", name, content);
        }
    }
}

async fn get(pki: &Pki, server: &Server, name: &str) -> Result<(), Status> {
    let request = EchoRequest {
        text: "NOT_FOUND".to_owned(),
    };
    pki.client(name, server.address)
        .echo(request)
        .await
        .map(drop)
}

/// A new connection is made and its call reaches the handler, which has no such text.
async fn answered(pki: &Pki, server: &Server, name: &str) {
    let status = get(pki, server, name).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}
