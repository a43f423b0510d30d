//! A fault in one part of the credentials does not block the others: a bad part keeps its last good content, and valid
//! changes of the other parts take effect within a reload interval.

use std::fs;

use cli::pki::certificate::Certificate;
use cli::pki::{Authority, Leaf, Revocation};
use identity::Role;
use serde_json::Value;
use test_contract::v1::EchoRequest;
use time::{Duration, OffsetDateTime};
use tonic::Code;

use crate::authority::{end, next, reason, record, watch};
use crate::scrape::{Scrape, get};
use crate::world::{Pki, Server, channel, command, eventually, hour, spec};

const REFUSED: &str = "new credentials refused; the last good ones stay in use";

/// The PKI of a server that believes three roots, with a list of three issuers, one of them unknown here.
struct Three {
    pki: Pki,
    /// To be removed.
    leaving: Authority,
    partner: Authority,
    stranger: Authority,
}

/// The lists of a moment, by issuer.
struct Lists {
    ours: String,
    partner: String,
    stranger: String,
}

impl Three {
    fn new() -> Self {
        let root = |name| Authority::root(name, hour()).unwrap();
        let three = Self {
            pki: Pki::new(),
            leaving: root("leaving"),
            partner: root("partner"),
            stranger: root("stranger"),
        };
        let roots = [&three.pki.root, &three.partner, &three.leaving];
        three.put_roots(&roots);
        three.put_lists(&three.lists(1, &[]).all());
        three
    }

    fn put_roots(&self, roots: &[&Authority]) {
        let pem: String = roots.iter().map(|root| root.certificate_pem()).collect();
        self.pki.put("echo", "ca.crt", pem);
    }

    fn put_lists(&self, lists: &str) {
        self.pki.put("echo", "crl.pem", lists);
    }

    /// Our list with `number`; those of the others stay at 5.
    fn lists(&self, number: u64, revoked: &[&Leaf]) -> Lists {
        Lists {
            ours: self.pki.crl(number, revoked),
            partner: list(&self.partner, 5),
            stranger: list(&self.stranger, 5),
        }
    }
}

impl Lists {
    fn all(&self) -> String {
        format!("{}{}{}", self.ours, self.partner, self.stranger)
    }
}

fn list(authority: &Authority, number: u64) -> String {
    // The same moment for each, so that a list of one number has one content.
    let now = OffsetDateTime::now_utc().replace_time(time::Time::MIDNIGHT);
    authority
        .crl(number, &[], now, now + Duration::days(2))
        .unwrap()
}

/// A fault in our own certificate; or what becomes of the lists.
enum Tampering {
    Own(fn(&Three)),
    Lists(fn(&Three, Lists) -> String),
}

/// What is done beside a revocation and the removal of a root, and what the log must say of it.
const FAULTS: &[(&str, Tampering, &[&str])] = &[
    (
        "the key of another pair",
        Tampering::Own(|three| put(three, "tls.key", &another(three).key_pem)),
        &["tls.key", "from different pairs"],
    ),
    (
        "the key gone",
        Tampering::Own(|three| fs::remove_file(path(three, "tls.key")).unwrap()),
        &["tls.key", "No such file"],
    ),
    (
        "a key that is no file",
        Tampering::Own(|three| {
            fs::remove_file(path(three, "tls.key")).unwrap();
            fs::create_dir(path(three, "tls.key")).unwrap();
        }),
        &["tls.key", "not a regular file"],
    ),
    (
        "half a certificate",
        Tampering::Own(|three| {
            let whole = fs::read_to_string(path(three, "tls.crt")).unwrap();
            put(three, "tls.crt", &whole[..whole.len() / 3]);
        }),
        &["tls.crt", "cut off"],
    ),
    (
        "the wrong order",
        Tampering::Own(|three| {
            let leaf = another(three);
            let issuer = three.pki.issuing.certificate_pem();
            let leaf_alone = leaf.chain_pem.strip_suffix(issuer).unwrap();
            put(three, "tls.key", &leaf.key_pem);
            put(three, "tls.crt", &format!("{issuer}{leaf_alone}"));
        }),
        &["tls.crt", "order is leaf"],
    ),
    (
        "an expired leaf",
        Tampering::Own(|three| {
            let mut expired = spec("echo");
            let now = OffsetDateTime::now_utc();
            expired.validity.not_before = now - Duration::hours(2);
            expired.validity.not_after = now - Duration::hours(1);
            let leaf = three.pki.issuing.issue(&expired).unwrap();
            three.pki.install("echo", &leaf);
        }),
        &["tls.crt", "expired"],
    ),
    (
        "a leaf of an unknown CA",
        Tampering::Own(|three| {
            let leaf = three.stranger.issue(&spec("echo")).unwrap();
            three.pki.install("echo", &leaf);
        }),
        &["tls.crt", "trusted root"],
    ),
    (
        "the same leaf without its intermediate",
        Tampering::Own(|three| {
            let whole = fs::read_to_string(path(three, "tls.crt")).unwrap();
            let issuer = three.pki.issuing.certificate_pem();
            put(three, "tls.crt", whole.strip_suffix(issuer).unwrap());
        }),
        &["tls.crt", "intermediate certificate is missing"],
    ),
    (
        "an older list of another issuer",
        Tampering::Lists(|three, lists| {
            let partner = list(&three.partner, 4);
            Lists { partner, ..lists }.all()
        }),
        &["crl.pem", "4 is lower than 5"],
    ),
    (
        "the list of an unknown issuer removed",
        Tampering::Lists(|_, lists| format!("{}{}", lists.ours, lists.partner)),
        &["crl.pem", "no longer holds", "CN=stranger"],
    ),
    (
        "two lists of an unknown issuer",
        Tampering::Lists(|three, lists| format!("{}{}", lists.all(), list(&three.stranger, 6))),
        &["crl.pem", "a second list of CN=stranger"],
    ),
    (
        "a list without a number",
        Tampering::Lists(|_, lists| {
            let stranger = without_number(&lists.stranger);
            Lists { stranger, ..lists }.all()
        }),
        &["crl.pem", "no CRL number"],
    ),
    (
        "junk after good lists",
        Tampering::Lists(|_, lists| format!("{}-----BEGIN X509 CRL-----\n?\n", lists.all())),
        &["crl.pem", "PEM"],
    ),
    (
        "a list cut off after good ones",
        Tampering::Lists(|_, lists| {
            let all = lists.all();
            all[..all.len() - 60].to_owned()
        }),
        &["crl.pem", "cut off"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_beside_a_revocation_and_a_removed_root_holds_neither_back() {
    for (fault, make, said) in FAULTS {
        let three = Three::new();
        let pki = &three.pki;
        let revoked = pki.issue("orders", &spec("orders"));
        let of_leaving = three.leaving.issue(&spec("orders")).unwrap();
        pki.install("of-leaving", &of_leaving);
        let server = Server::start(pki, &[]);
        let open = |name| channel(pki.trust(name, Role::Client), server.address);
        let mut lost = watch(&open("orders")).await;
        let mut rootless = watch(&open("of-leaving")).await;
        let mut kept = watch(&open("auditor")).await;
        for levels in [&mut lost, &mut rootless, &mut kept] {
            next(levels).await.unwrap();
        }

        let lists = three.lists(2, &[&revoked]);
        match make {
            Tampering::Own(make) => {
                make(&three);
                three.put_lists(&lists.all());
            }
            Tampering::Lists(make) => three.put_lists(&make(&three, lists)),
        }
        three.put_roots(&[&pki.root, &three.partner]);
        let expect = |code: &str| (Code::Unauthenticated, code.to_owned());
        let ended = reason(&end(lost).await);
        assert_eq!(ended, expect("CERTIFICATE_REVOKED"), "{fault}");
        let ended = reason(&end(rootless).await);
        assert_eq!(ended, expect("UNKNOWN_ISSUER"), "{fault}");

        let refused = |line: &Value| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["message"] == REFUSED && said.iter().all(|said| reason.contains(said))
        };
        server.log.wait(refused);
        assert_eq!(server.log.count(refused), 1, "{fault}");
        assert_eq!(in_use(&server), 0.0, "{fault}");
        record(pki, &server, "2").await;
        assert_eq!(next(&mut kept).await.unwrap().text, "2", "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_list_holds_back_neither_a_new_leaf_nor_a_removed_root_and_revokes_as_before() {
    let three = Three::new();
    let pki = &three.pki;
    let revoked = pki.issue("orders", &spec("orders"));
    three.put_lists(&three.lists(2, &[&revoked]).all());
    let of_leaving = three.leaving.issue(&spec("auditor")).unwrap();
    pki.install("of-leaving", &of_leaving);
    let server = Server::start(pki, &[]);
    let rootless = watch(&channel(
        pki.trust("of-leaving", Role::Client),
        server.address,
    ))
    .await;

    three.put_lists("-----BEGIN X509 CRL-----\n");
    server.log.wait(|line| line["message"] == REFUSED);
    let serial = pki.issue("echo", &spec("echo")).serial.to_string();
    server
        .log
        .wait(|line| line["message"] == "credentials in use" && line["serial"] == serial.as_str());
    three.put_roots(&[&pki.root, &three.partner]);
    let ended = reason(&end(rootless).await);
    assert_eq!(ended, (Code::Unauthenticated, "UNKNOWN_ISSUER".to_owned()));
    let refused = pki.client("orders", server.address).echo(unknown()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    server
        .log
        .wait(|line| line["code"] == "CERTIFICATE_REVOKED");

    three.put_lists(&three.lists(3, &[&revoked]).all());
    eventually("all is in use", || (in_use(&server) == 1.0).then_some(()));
}

/// The issuing CA of the callers is in no file of the server: they present it.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_list_of_an_issuer_that_only_callers_present_leaves_the_last_good_one() {
    let pki = Pki::new();
    let issuing = pki.root.issuing("callers", hour()).unwrap();
    let forger = pki.root.issuing("callers", hour()).unwrap();
    let [orders, auditor] = ["orders", "auditor"].map(|name| {
        let leaf = issuing.issue(&spec(name)).unwrap();
        pki.install(name, &leaf);
        leaf
    });
    pki.put("echo", "crl.pem", revoking(&issuing, 1, &auditor));
    let server = Server::start(&pki, &[]);
    server.log.wait(|line| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .is_some_and(|said| said.contains("is in no file here"))
    });
    let mut kept = watch(&channel(pki.trust("orders", Role::Client), server.address)).await;
    next(&mut kept).await.unwrap();

    pki.put("echo", "crl.pem", revoking(&forger, 9, &orders));
    let forged = |line: &Value| line["message"] == REFUSED && line["code"] == "CRL_FORGED";
    server.log.wait(forged);
    // Who was revoked stays revoked, who was not is let in, by new connections too.
    let answer = pki.client("orders", server.address).echo(unknown()).await;
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
    let answer = pki.client("auditor", server.address).echo(unknown()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
    record(&pki, &server, "2").await;
    assert_eq!(next(&mut kept).await.unwrap().text, "2");
    assert_eq!(server.log.count(forged), 1);

    // The forged number keeps no true list out.
    pki.put("echo", "crl.pem", revoking(&issuing, 2, &orders));
    let ended = reason(&end(kept).await);
    assert_eq!(
        ended,
        (Code::Unauthenticated, "CERTIFICATE_REVOKED".to_owned())
    );
    eventually("all is in use", || (in_use(&server) == 1.0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_our_own_list_revokes_is_not_taken_and_one_in_use_makes_us_not_ready() {
    let pki = Pki::new();
    let in_use = pki.issue("echo", &spec("echo"));
    pki.put("echo", "crl.pem", pki.crl(1, &[]));
    let server = Server::start(&pki, &[]);
    let next_leaf = pki.issuing.issue(&spec("echo")).unwrap();
    pki.put("echo", "crl.pem", pki.crl(2, &[&next_leaf]));
    pki.install("echo", &next_leaf);
    server
        .log
        .wait(|line| line["message"] == REFUSED && line["code"] == "CERTIFICATE_REVOKED");
    assert!(get(server.admin, "/readyz").0.contains("200 OK"));

    pki.put("echo", "crl.pem", pki.crl(3, &[&next_leaf, &in_use]));
    let line = server.log.wait(|line| line["message"] == "not ready");
    assert_eq!(line["reason"], "own certificate revoked");
    server
        .log
        .wait(|line| line["level"] == "WARN" && line["code"] == "CERTIFICATE_REVOKED");
    pki.issue("echo", &spec("echo"));
    server.log.wait(|line| line["message"] == "ready");

    // At the start there is no last good one.
    let pki = Pki::new();
    let own = pki.issue("echo", &spec("echo"));
    pki.put("echo", "crl.pem", pki.crl(1, &[&own]));
    let refused = command("echo-server")
        .arg("check")
        .env("APP_TLS_DIR", pki.dir("echo"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("tls.crt") && said.contains("revoked"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ours_that_is_revoked_stops_a_start_and_makes_us_not_ready() {
    let pki = Pki::new();
    let revoking = |number: u64, revoked: &[&Authority]| {
        let now = OffsetDateTime::now_utc() - Duration::minutes(1);
        let revoked: Vec<_> = revoked
            .iter()
            .map(|authority| Revocation {
                serial: Certificate::from_der(authority.certificate())
                    .unwrap()
                    .serial,
                at: now,
            })
            .collect();
        pki.root
            .crl(number, &revoked, now, now + Duration::hours(1))
            .unwrap()
    };
    pki.put("echo", "crl.pem", revoking(1, &[]));
    let server = Server::start(&pki, &[]);

    pki.put("echo", "crl.pem", revoking(2, &[&pki.issuing]));
    let line = server.log.wait(|line| line["message"] == "not ready");
    assert_eq!(line["reason"], "own certificate revoked");
    server
        .log
        .wait(|line| line["level"] == "WARN" && line["code"] == "CERTIFICATE_REVOKED");
    // One of the same authority is no better, so that the last good one stays.
    pki.issue("echo", &spec("echo"));
    server
        .log
        .wait(|line| line["message"] == REFUSED && line["code"] == "CERTIFICATE_REVOKED");
    let check = || {
        command("echo-server")
            .arg("check")
            .env("APP_TLS_DIR", pki.dir("echo"))
            .output()
            .unwrap()
    };
    let refused = check();
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("tls.crt") && said.contains("revoked"),
        "{said}"
    );

    let another = pki.root.issuing("another issuing", hour()).unwrap();
    pki.install("echo", &another.issue(&spec("echo")).unwrap());
    server.log.wait(|line| line["message"] == "ready");
}

#[test]
fn a_list_of_a_hundred_thousand_entries_is_taken() {
    let pki = Pki::new();
    let now = OffsetDateTime::now_utc();
    let leaf = pki.issuing.issue(&spec("orders")).unwrap();
    let mut revoked = vec![Revocation {
        serial: leaf.serial,
        at: now,
    }];
    while revoked.len() < 100_000 {
        let serial = format!("4a{:030x}", revoked.len());
        revoked.push(Revocation {
            serial: serial.parse().unwrap(),
            at: now,
        });
    }
    let list = pki
        .issuing
        .crl(
            1,
            &revoked,
            now - Duration::minutes(1),
            now + Duration::hours(1),
        )
        .unwrap();
    assert!(list.len() > 4 << 20);
    pki.put("echo", "crl.pem", list);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _runtime = runtime.enter();
    let trust = pki.trust("echo", Role::Server);
    let counts: Vec<_> = trust.current().crls().map(|crl| crl.revoked).collect();
    assert_eq!(counts, [100_000]);
}

fn revoking(authority: &Authority, number: u64, leaf: &Leaf) -> String {
    let now = OffsetDateTime::now_utc() - Duration::minutes(1);
    let revocation = Revocation {
        serial: leaf.serial.clone(),
        at: now,
    };
    authority
        .crl(number, &[revocation], now, now + Duration::hours(1))
        .unwrap()
}

fn in_use(server: &Server) -> f64 {
    let name = "config_last_reload_successful";
    Scrape::of(server.admin).sum(name, &[("input", "tls")])
}

fn unknown() -> EchoRequest {
    EchoRequest {
        text: "NOT_FOUND".to_owned(),
    }
}

fn another(three: &Three) -> Leaf {
    three.pki.issuing.issue(&spec("echo")).unwrap()
}

fn path(three: &Three, file: &str) -> std::path::PathBuf {
    three.pki.dir("echo").join(file)
}

fn put(three: &Three, file: &str, content: &str) {
    three.pki.put("echo", file, content);
}

/// The same list with an extension in place of its number (2.5.29.20) that nobody knows.
fn without_number(list: &str) -> String {
    let list = pem::parse(list).unwrap();
    let mut der = list.contents().to_vec();
    let number = [0x06, 0x03, 0x55, 0x1d, 0x14];
    let at = der.windows(5).position(|bytes| *bytes == number).unwrap();
    der[at + 4] = 0x63;
    pem::encode(&pem::Pem::new(list.tag(), der))
}
