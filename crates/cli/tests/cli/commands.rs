//! `countersign pki init` and `issue`, run as a program.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use countersign_cli::pki::Purpose;
use serde_json::Value;

use crate::tool::{Sandbox, eventually, is_missing, run_other};

pub(crate) const IDENTITIES: [&str; 7] = [
    "auditor",
    "billing",
    "catalog",
    "inventory",
    "mainframe",
    "marketing",
    "orders",
];

#[test]
fn init_makes_every_way_to_name_a_caller() {
    let sandbox = Sandbox::with_pki();
    for (name, principal, purpose) in [
        ("inventory", "spiffe://acme.test/inventory", Purpose::Server),
        ("orders", "spiffe://acme.test/orders", Purpose::Client),
        ("catalog", "spiffe://acme.test/catalog", Purpose::Client),
        ("auditor", "spiffe://acme.test/auditor", Purpose::Client),
        ("marketing", "spiffe://acme.test/marketing", Purpose::Client),
        ("billing", "billing.acme.test", Purpose::Client),
        (
            "mainframe",
            "CN=mainframe,OU=batch,O=Acme,C=US",
            Purpose::Client,
        ),
    ] {
        let der = sandbox.leaf(name, |leaf| {
            assert_eq!(leaf.purposes, Some(vec![purpose.clone()]), "{name}");
            leaf.names.clone()
        });
        let role = if purpose == Purpose::Server {
            "as_server"
        } else {
            "as_client"
        };
        let shown = sandbox.json(&["cert", "show", &format!("certs/{name}/tls.crt")]);
        assert_eq!(
            shown[role]["identified"]["principal"], principal,
            "{name}: {der:?}"
        );
    }
    let server = sandbox.leaf("inventory", |leaf| leaf.names.clone());
    assert_eq!(server.dns, ["localhost"]);
    assert_eq!(
        server
            .ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["127.0.0.1", "::1"]
    );
}

#[test]
fn keys_are_for_their_owner_and_nothing_else_is_left_behind() {
    let sandbox = Sandbox::with_pki();
    let loose = sandbox.path("certs/orders/tls.key");
    std::fs::set_permissions(loose, std::fs::Permissions::from_mode(0o666)).unwrap();
    sandbox.succeed(&["pki", "renew"]);
    sandbox.succeed(&["pki", "revoke", "orders"]);
    for (path, _) in sandbox.snapshot() {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name.ends_with(".key"), mode == 0o600, "{}", path.display());
        let known = [
            "root.crt",
            "root.key",
            "issuing.crt",
            "issuing.key",
            "crl.pem",
        ];
        let known_too = ["tls.crt", "tls.key", "ca.crt", ".gitignore", "dev.toml"];
        assert!(
            known.contains(&name) || known_too.contains(&name),
            "{}",
            path.display()
        );
    }
    let ca = sandbox
        .path("certs/ca")
        .metadata()
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(ca, 0o700);
}

#[test]
fn git_takes_no_key_of_a_pki_wherever_it_is() {
    if is_missing("git", "--version") {
        return;
    }
    for dir in ["certs", "deep/down/pki", "."] {
        let sandbox = Sandbox::empty();
        sandbox.write("mine.txt", "mine");
        assert!(run_other(&sandbox, "git", &["init", "--quiet"]).0);
        sandbox.succeed(&["pki", "--dir", dir, "init"]);
        sandbox.succeed(&["pki", "--dir", dir, "issue", "late", "--dns", "a.test"]);
        sandbox.succeed(&["pki", "--dir", dir, "revoke", "late"]);
        let roster = format!("{dir}/dev.toml");
        sandbox.write(&roster, "");
        assert!(run_other(&sandbox, "git", &["add", "--all"]).0);
        let (_, staged) = run_other(&sandbox, "git", &["ls-files"]);
        assert!(staged.contains("dev.toml") && staged.contains(".gitignore"));
        for secret in [".key", ".crt", ".pem"] {
            assert!(!staged.contains(secret), "{dir}: {staged}");
        }
    }
    let sandbox = Sandbox::empty();
    std::fs::create_dir(sandbox.path("certs")).unwrap();
    sandbox.write("certs/.gitignore", "/mine");
    sandbox.succeed(&["pki", "init"]);
    assert_eq!(sandbox.read("certs/.gitignore"), "/mine");
}

#[test]
fn init_twice_is_init_once() {
    let sandbox = Sandbox::with_pki();
    let before = sandbox.snapshot();
    let said = sandbox.succeed(&["pki", "init"]);
    assert_eq!(said.matches(" kept: ").count(), 8, "{said}");
    assert_eq!(sandbox.snapshot(), before);
}

#[test]
fn init_replaces_what_is_wrong() {
    let sandbox = Sandbox::with_pki();
    let serials = IDENTITIES.map(|name| sandbox.serial(name));
    sandbox.write("certs/auditor/tls.crt", "");
    sandbox.write(
        "certs/billing/tls.key",
        sandbox.read("certs/orders/tls.key"),
    );
    std::fs::remove_file(sandbox.path("certs/catalog/tls.key")).unwrap();
    std::fs::remove_dir_all(sandbox.path("certs/inventory")).unwrap();
    let other = Sandbox::with_pki();
    for file in ["tls.crt", "tls.key"] {
        sandbox.write(
            &format!("certs/mainframe/{file}"),
            other.read(&format!("certs/mainframe/{file}")),
        );
    }
    sandbox.succeed(&["pki", "issue", "marketing", "--uri", "x:y", "--replace"]);
    let loose = sandbox.path("certs/orders/tls.key");
    std::fs::set_permissions(loose, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = sandbox.succeed(&["pki", "init"]);
    for line in [
        "auditor          replaced, there was no certificate in the file",
        "billing          replaced, its key was missing or that of another",
        "catalog          replaced, its key was missing",
        "inventory        issued",
        "mainframe        replaced, the old one was of another CA",
        "marketing        replaced, its names, usage or kind of key have changed",
        "orders           replaced, its key could be read by others",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let now = IDENTITIES.map(|name| sandbox.serial(name));
    assert!((0..7).all(|index| now[index] != serials[index]));
    assert_eq!(
        sandbox.succeed(&["pki", "init"]).matches(" kept: ").count(),
        8
    );
}

#[test]
fn an_expired_certificate_is_replaced_by_init() {
    let sandbox = Sandbox::with_identities();
    sandbox.succeed(&["pki", "init", "--ttl", "1s"]);
    let state = || sandbox.json(&["pki", "list"])[0]["problem"].clone();
    eventually("the certificates expire", || state() == "expired");
    let said = sandbox.succeed(&["pki", "init"]);
    assert_eq!(
        said.matches("replaced, the old one had expired").count(),
        7,
        "{said}"
    );
    assert_eq!(state(), Value::Null);
}

#[test]
fn an_authority_is_never_overwritten() {
    for file in ["root.crt", "issuing.crt", "issuing.key"] {
        let sandbox = Sandbox::with_pki();
        std::fs::remove_file(sandbox.path(&format!("certs/ca/{file}"))).unwrap();
        let before = sandbox.snapshot();
        sandbox.refuse(&["pki", "init"], &format!("certs/ca/{file} is missing"));
        assert_eq!(sandbox.snapshot(), before, "{file}");
    }
    let (sandbox, other) = (Sandbox::with_pki(), Sandbox::with_pki());
    for (file, contents, why) in [
        (
            "root.crt",
            String::new(),
            "root.crt: the certificate holds no certificate",
        ),
        (
            "root.crt",
            other.read("certs/ca/root.crt"),
            "not issued by root.crt",
        ),
        (
            "issuing.crt",
            sandbox.read("certs/orders/tls.crt"),
            "issuing.crt: the certificate is not a CA certificate",
        ),
        (
            "issuing.key",
            other.read("certs/ca/issuing.key"),
            "the private key is not that of",
        ),
        (
            "issuing.key",
            "garbage".to_owned(),
            "the private key holds no private key",
        ),
    ] {
        let path = format!("certs/ca/{file}");
        let right = sandbox.read(&path);
        sandbox.write(&path, contents);
        let before = sandbox.snapshot();
        for command in [&["pki", "init"][..], &["pki", "renew"], &["pki", "crl"]] {
            sandbox.refuse(command, why);
        }
        assert_eq!(sandbox.snapshot(), before, "{file}: {why}");
        sandbox.write(&path, right);
    }
    assert_eq!(
        sandbox.succeed(&["pki", "init"]).matches(" kept: ").count(),
        8
    );
}

#[test]
fn the_root_key_may_be_taken_away() {
    let sandbox = Sandbox::with_pki();
    std::fs::remove_file(sandbox.path("certs/ca/root.key")).unwrap();
    sandbox.succeed(&["pki", "init"]);
    sandbox.succeed(&["pki", "renew", "orders"]);
}

#[test]
fn identities_come_from_the_directory_or_from_a_file_that_is_named() {
    let sandbox = Sandbox::empty();
    std::fs::create_dir(sandbox.path("certs")).unwrap();
    sandbox.write(
        "certs/dev.toml",
        "[a]\nusage = 'client'\nuris = ['spiffe://{trust_domain}/a']\n",
    );
    sandbox.write("b.toml", "[b]\nusage = 'both'\ndns = ['b']\n");
    sandbox.succeed(&["pki", "init", "--trust-domain", "corp.test"]);
    sandbox.succeed(&["pki", "init", "--identities", "b.toml"]);
    assert_eq!(
        sandbox.leaf("a", |leaf| leaf.names.uris.clone()),
        ["spiffe://corp.test/a"]
    );
    assert_eq!(sandbox.leaf("b", |leaf| leaf.names.dns.clone()), ["b"]);

    sandbox.write(
        "b.toml",
        "[b]\nusage = 'both'\ndns = ['b']\n\n[\"../c\"]\nusage = 'client'\ndns = ['c']",
    );
    let before = sandbox.snapshot();
    sandbox.refuse(
        &["pki", "init", "--identities", "b.toml"],
        "b.toml:5: \"../c\": a name is",
    );
    sandbox.refuse(
        &["pki", "init", "--identities", "none.toml"],
        "cannot read none.toml",
    );
    sandbox.refuse(
        &["pki", "init", "--trust-domain", "a/b"],
        "a trust domain is",
    );
    sandbox.refuse(
        &["pki", "init", "--ttl", "0s"],
        "a lifetime is a second at least",
    );
    sandbox.refuse(&["pki", "init", "--ttl", "99999 years"], "a lifetime");
    sandbox.refuse(
        &["pki", "init", "--ttl", "6 years"],
        "the issuing CA itself",
    );
    assert_eq!(sandbox.snapshot(), before);
}

#[test]
fn issue_refuses_what_is_not_safe_to_hand_out() {
    let sandbox = Sandbox::with_pki();
    let before = sandbox.snapshot();
    for (arguments, why) in [
        (&["new"][..], "no name is given"),
        (&["new", "--usage", "server"], "no name is given"),
        (
            &["new", "--subject", "CN=localhost", "--usage", "server"],
            "needs a subject alternative name",
        ),
        (
            &["new", "--subject", "CN=localhost", "--usage", "both"],
            "needs a subject alternative name",
        ),
        (
            &["new", "--subject", "localhost"],
            "not of the form TYPE=value",
        ),
        (&["new", "--subject", "CN=a+CN=b"], "twice in a part"),
        (&["new", "--dns", "127.0.0.1"], "--ip"),
        (&["new", "--ip", "localhost"], "invalid IP address"),
        (&["new", "--uri", "spiffe://Acme/x"], "not a SPIFFE ID"),
        (
            &["new", "--uri", "spiffe://a/x", "--uri", "spiffe://a/y"],
            "one SPIFFE ID",
        ),
        (
            &["new", "--uri", "spiffe://a/x", "--uri", "https://a/y"],
            "must be the only URI",
        ),
        (&["new", "--email", "nobody"], "user@host"),
        (
            &["new", "--dns", "a", "--key", "rsa1024"],
            "invalid value 'rsa1024'",
        ),
        (&["new", "--dns", "a", "--ttl", "5"], "invalid value '5'"),
        (&["../new", "--dns", "a"], "a name is 1 to 63"),
        (&["/tmp/new", "--dns", "a"], "a name is 1 to 63"),
        (&["..", "--dns", "a"], "a name is 1 to 63"),
        (&["ca", "--dns", "a"], "is the directory of the CA"),
        (
            &["orders", "--uri", "spiffe://acme.test/admin"],
            "--replace",
        ),
        (
            &["orders", "--uri", "spiffe://acme.test/orders"],
            "--replace",
        ),
    ] {
        sandbox.refuse(&[&["pki", "issue"], arguments].concat(), why);
    }
    assert_eq!(sandbox.snapshot(), before);
    Sandbox::empty().refuse(&["pki", "issue", "a", "--dns", "a"], "pki init");
}

#[test]
fn issue_takes_every_kind_of_name_and_of_key() {
    let sandbox = Sandbox::with_pki();
    for key in ["p256", "ed25519", "rsa2048"] {
        let arguments = [
            "pki",
            "issue",
            key,
            "--uri",
            "https://acme.test/b",
            "--uri",
            "https://acme.test/a",
            "--dns",
            "*.a.test",
            "--ip",
            "::1",
            "--email",
            "a@acme.test",
            "--subject",
            "CN=a",
            "--key",
            key,
            "--ttl",
            "1h",
        ];
        assert!(sandbox.succeed(&arguments).contains(" issued: "));
        let before = sandbox.snapshot();
        assert!(
            sandbox.succeed(&arguments).contains(" kept: "),
            "twice is once"
        );
        assert_eq!(sandbox.snapshot(), before);
        sandbox.leaf(key, |leaf| {
            let names = &leaf.names;
            assert_eq!(names.uris, ["https://acme.test/b", "https://acme.test/a"]);
            assert_eq!(
                (&*names.dns[0], &*names.emails[0]),
                ("*.a.test", "a@acme.test")
            );
            assert_eq!(
                leaf.purposes.as_ref().unwrap()[..],
                [Purpose::Server, Purpose::Client]
            );
            assert_eq!(leaf.validity.lifetime(), Duration::from_secs(3600));
        });
    }
    sandbox.succeed(&["pki", "issue", "subject-only", "--subject", "CN=a,O=b"]);
    let purposes = sandbox.leaf("subject-only", |leaf| leaf.purposes.clone().unwrap());
    assert_eq!(
        purposes,
        [Purpose::Client],
        "no server is without an alternative name"
    );
}

#[test]
fn an_identitys_directory_is_its_owners_alone_whatever_the_umask() {
    let sandbox = Sandbox::with_identities();
    let made = std::process::Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" pki init --dir certs"])
        .arg(env!("CARGO_BIN_EXE_countersign"))
        .current_dir(sandbox.path("."))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mode = |path: &str| {
        let path = sandbox.path(path);
        path.metadata().unwrap().permissions().mode() & 0o777
    };
    for name in IDENTITIES.into_iter().chain(["ca"]) {
        assert_eq!(mode(&format!("certs/{name}")), 0o700, "{name}");
    }
    assert_eq!(mode("certs"), 0o755);
    assert_eq!(mode("certs/orders/tls.key"), 0o600);
}

#[test]
fn an_authority_whose_key_others_can_read_is_refused() {
    let sandbox = Sandbox::with_pki();
    for (key, mode, said) in [
        ("issuing.key", 0o666, "mode 0666"),
        ("root.key", 0o604, "mode 0604"),
        ("issuing.key", 0o620, "mode 0620"),
    ] {
        let path = sandbox.path(&format!("certs/ca/{key}"));
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        set(mode);
        for command in [&["pki", "renew", "orders"][..], &["pki", "init"]] {
            sandbox.refuse(command, said);
        }
        // A group may be let in on purpose.
        set(0o640);
        sandbox.succeed(&["pki", "renew", "orders"]);
    }
}
