//! Revocation that is demanded, and revocation that outlasts a restart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use cli::pki::{Authority, LeafSpec, Revocation, Validity};
use countersign::identity::Role;
use countersign::mtls::{InvalidCredentials, MissingCrls, Reload, Source, Trust};
use prometheus_client::registry::Registry;
use time::OffsetDateTime;

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use support::Pki;

fn state(pki: &Pki) -> PathBuf {
    pki.path("crl.state")
}

fn reload(pki: &Pki) -> Reload {
    Reload {
        interval: Duration::from_millis(50),
        crl_state: Some(state(pki)),
        ..Reload::default()
    }
}

fn open(pki: &Pki, reload: Reload) -> Result<Trust, InvalidCredentials> {
    Trust::open(Role::Server, Source::directory(pki.path("echo")), reload)
}

fn code(opened: Result<Trust, InvalidCredentials>) -> &'static str {
    opened.map_or_else(|error| error.code(), |_trust| "opened")
}

fn list(authority: &Authority, number: u64, revoked: &[Revocation]) -> String {
    // The same moment for each, so that a list of one number has one content.
    let now = OffsetDateTime::now_utc().replace_time(time::Time::MIDNIGHT);
    let later = now + time::Duration::days(2);
    authority.crl(number, revoked, now, later).unwrap()
}

fn put(pki: &Pki, file: &str, content: &str) {
    let next = pki.path("echo").join("next");
    fs::write(&next, content).unwrap();
    fs::rename(next, pki.path("echo").join(file)).unwrap();
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether what the files hold now was refused.
fn is_refused(trust: &Trust) -> bool {
    let mut registry = Registry::default();
    base::reload::register(vec![("tls", trust.input())], &mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    page.contains("config_last_reload_successful{input=\"tls\"} 0")
}

fn another_root() -> Authority {
    let hour = Duration::from_secs(3600);
    let validity = Validity::starting(OffsetDateTime::now_utc(), hour).unwrap();
    Authority::root("another root", validity).unwrap()
}

#[tokio::test]
async fn where_lists_are_required_no_one_is_accepted_without_one() {
    let pki = Pki::new();
    let demanding = || Reload {
        missing_crls: MissingCrls::Refuse,
        interval: Duration::from_millis(50),
        ..Reload::default()
    };
    assert_eq!(code(open(&pki, demanding())), "CRL_REQUIRED");
    let (ours, other) = (list(&pki.root, 1, &[]), another_root());
    put(&pki, "crl.pem", &ours);
    let trust = open(&pki, demanding()).unwrap();
    let judge = |authority: &Authority| {
        let hour = Duration::from_secs(3600);
        let mut spec =
            LeafSpec::client(Validity::starting(OffsetDateTime::now_utc(), hour).unwrap());
        spec.uris = vec!["spiffe://acme.test/orders".to_owned()];
        let chain = authority.issue(&spec).unwrap().chain;
        let judged = trust.current();
        let judged = judged
            .authorities()
            .judge(Role::Client, &chain, SystemTime::now());
        judged.map_or_else(|refusal| refusal.code(), |_peer| "accepted")
    };
    assert_eq!(judge(&pki.root), "accepted");
    let below = |authority: &Authority| {
        let hour = Duration::from_secs(3600);
        let validity = Validity::starting(OffsetDateTime::now_utc(), hour).unwrap();
        authority.issuing("issuing", validity).unwrap()
    };
    // The list of the root says nothing about what an intermediate issued.
    assert_eq!(judge(&below(&pki.root)), "REVOCATION_UNKNOWN");

    // A root comes with its list, and not before.
    let both = format!("{}{}", pki.root.certificate_pem(), other.certificate_pem());
    put(&pki, "ca.crt", &both);
    eventually("the root is refused", || is_refused(&trust)).await;
    assert_eq!(judge(&other), "UNKNOWN_ISSUER");
    put(&pki, "crl.pem", &format!("{ours}{}", list(&other, 1, &[])));
    eventually("the root with its list", || judge(&other) == "accepted").await;
    assert_eq!(judge(&pki.root), "accepted");
}

#[tokio::test]
async fn a_restart_takes_no_older_list_and_does_not_forget_one() {
    let pki = Pki::new();
    let revoked = Revocation {
        serial: pki.orders.serial.clone(),
        at: OffsetDateTime::now_utc(),
    };
    put(&pki, "crl.pem", &list(&pki.root, 5, &[]));
    let trust = open(&pki, reload(&pki)).unwrap();
    let mode = fs::metadata(state(&pki)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // What came while it ran is remembered before it is in use.
    let newest = list(&pki.root, 7, &[revoked]);
    put(&pki, "crl.pem", &newest);
    let number = || trust.current().crls().next().unwrap().number.clone();
    eventually("the newer list", || number() == "7").await;
    let remembered = fs::read_to_string(state(&pki)).unwrap();
    assert!(remembered.contains(" 7 "), "{remembered}");
    drop(trust);

    for (case, lists, expected) in [
        ("older", list(&pki.root, 6, &[]), "CRL_OLDER"),
        ("of the same number", list(&pki.root, 7, &[]), "CRL_OLDER"),
        ("the same", newest.clone(), "opened"),
        ("newer", list(&pki.root, 8, &[]), "opened"),
        ("the one before", newest, "CRL_OLDER"),
    ] {
        put(&pki, "crl.pem", &lists);
        assert_eq!(code(open(&pki, reload(&pki))), expected, "{case}");
    }
    fs::remove_file(pki.path("echo").join("crl.pem")).unwrap();
    assert_eq!(code(open(&pki, reload(&pki))), "CRL_GONE");
    // Without the file that remembers, a restart stops checking.
    assert_eq!(code(open(&pki, Reload::default())), "opened");
}

#[tokio::test]
async fn a_list_is_forgotten_with_the_root_above_it() {
    let (pki, other) = (Pki::new(), another_root());
    let ours = list(&pki.root, 5, &[]);
    let both = format!("{}{}", pki.root.certificate_pem(), other.certificate_pem());
    put(&pki, "ca.crt", &both);
    put(&pki, "crl.pem", &format!("{ours}{}", list(&other, 5, &[])));
    assert_eq!(code(open(&pki, reload(&pki))), "opened");
    put(&pki, "crl.pem", &ours);
    assert_eq!(code(open(&pki, reload(&pki))), "CRL_GONE");
    put(&pki, "ca.crt", pki.root.certificate_pem());
    assert_eq!(code(open(&pki, reload(&pki))), "opened");
    // And its number is still known when it comes back.
    put(&pki, "ca.crt", &both);
    put(&pki, "crl.pem", &format!("{ours}{}", list(&other, 4, &[])));
    assert_eq!(code(open(&pki, reload(&pki))), "CRL_OLDER");
}

#[tokio::test]
async fn a_file_that_is_not_what_was_written_is_refused_with_what_to_do() {
    let pki = Pki::new();
    put(&pki, "crl.pem", &list(&pki.root, 5, &[]));
    assert_eq!(code(open(&pki, reload(&pki))), "opened");
    let whole = fs::read(state(&pki)).unwrap();
    let cut = whole.len() - 3;
    for (case, content) in [
        ("empty", &b""[..]),
        ("cut", &whole[..cut]),
        ("another file", b"-----BEGIN CERTIFICATE-----\n"),
        ("no text", b"\xff\xfe"),
        ("too large", &[b'a'; 2 << 20]),
    ] {
        fs::write(state(&pki), content).unwrap();
        let error = open(&pki, reload(&pki)).map(|_trust| ()).unwrap_err();
        assert_eq!(error.code(), "CRL_STATE_UNUSABLE", "{case}");
        let text = error.to_string();
        assert!(
            text.contains("crl.state") && text.contains("remove it"),
            "{case}: {text}"
        );
        assert_eq!(fs::read(state(&pki)).unwrap(), content, "{case}");
    }
    fs::write(state(&pki), &whole).unwrap();
    fs::set_permissions(state(&pki), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(code(open(&pki, reload(&pki))), "CRL_STATE_UNUSABLE");
    fs::remove_file(state(&pki)).unwrap();
    fs::create_dir(state(&pki)).unwrap();
    assert_eq!(code(open(&pki, reload(&pki))), "CRL_STATE_UNUSABLE");
    let nowhere = Reload {
        crl_state: Some(pki.path("no/where")),
        ..Reload::default()
    };
    assert_eq!(code(open(&pki, nowhere)), "CRL_STATE_UNUSABLE");
}

#[tokio::test]
async fn two_credentials_of_one_process_share_the_file_and_forget_no_list() {
    let pki = Pki::new();
    let validity = || {
        let hour = Duration::from_secs(3600);
        Validity::starting(OffsetDateTime::now_utc(), hour).unwrap()
    };
    let issuing = pki.root.issuing("issuing", validity()).unwrap();
    let lists = |root, issued| list(&pki.root, root, &[]) + &list(&issuing, issued, &[]);
    put(&pki, "crl.pem", &lists(1, 777));
    let server = open(&pki, reload(&pki)).unwrap();
    // To call a database or another service, under another spelling of the path.
    let other = Reload {
        crl_state: Some(pki.path("echo/../crl.state")),
        ..reload(&pki)
    };
    let source = Source::directory(pki.path("echo"));
    let client = Trust::open(Role::Client, source, other).unwrap();
    // Only a caller shows the server the issuer of list 777, so the other credentials never verify it.
    let mut caller = LeafSpec::client(validity());
    caller.uris = vec!["spiffe://acme.test/orders".to_owned()];
    let chain = issuing.issue(&caller).unwrap().chain;
    let current = server.current();
    let judged = current
        .authorities()
        .judge(Role::Client, &chain, SystemTime::now());
    judged.unwrap();
    let recorded = || fs::read_to_string(state(&pki)).unwrap();
    eventually("it is recorded", || recorded().contains(" 777 ")).await;
    for number in 2..5 {
        put(&pki, "crl.pem", &lists(number, 777));
        let takes = |trust: &Trust| {
            let current = trust.current();
            current.crls().any(|crl| crl.number == number.to_string())
        };
        eventually("both take the new list", || {
            takes(&server) && takes(&client)
        })
        .await;
        assert!(recorded().contains(" 777 "), "{}", recorded());
    }
    drop((server, client));
    put(&pki, "crl.pem", &lists(5, 776));
    assert_eq!(code(open(&pki, reload(&pki))), "CRL_OLDER");
}

#[tokio::test]
async fn a_check_compares_lists_with_the_record_and_leaves_it_as_it_is() {
    let pki = Pki::new();
    put(&pki, "crl.pem", &list(&pki.root, 2, &[]));
    drop(open(&pki, reload(&pki)).unwrap());
    let recorded = || fs::read_to_string(state(&pki)).unwrap();
    let before = recorded();
    let check = || Reload {
        keep_crl_state: true,
        ..reload(&pki)
    };
    put(&pki, "crl.pem", &list(&pki.root, 3, &[]));
    let checked = open(&pki, check()).unwrap();
    // What the check opens besides, as for a database.
    let source = Source::directory(pki.path("echo"));
    let besides = Trust::open(Role::Client, source, reload(&pki)).unwrap();
    put(&pki, "crl.pem", &list(&pki.root, 4, &[]));
    for trust in [&checked, &besides] {
        let takes = || trust.current().crls().any(|crl| crl.number == "4");
        eventually("it takes the new list", takes).await;
    }
    assert_eq!(recorded(), before);
    drop((checked, besides));
    put(&pki, "crl.pem", &list(&pki.root, 1, &[]));
    assert_eq!(code(open(&pki, check())), "CRL_OLDER");
}
