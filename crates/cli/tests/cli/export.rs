//! `pki export`: what other programs make of the files, and what is never written.

use std::os::unix::fs::PermissionsExt as _;

use identity::Role;
use mtls::{ExpiredCrls, PemFile, Snapshot};
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rcgen::KeyPair;

use crate::tool::{Sandbox, is_missing, run_other};

/// Each of our identities in every form, with the password `changeit`.
fn exported(name: &str) -> Sandbox {
    let sandbox = Sandbox::with_pki();
    let said = sandbox.succeed(&[
        "pki",
        "export",
        name,
        "--p12",
        "modern.p12",
        "--p12-compatible",
        "compatible.p12",
        "--truststore",
        "trust.p12",
        "--bundle",
        "bundle.pem",
        "--chain",
        "chain.pem",
        "--password",
        "changeit",
    ]);
    assert!(!said.contains("changeit"), "{said}");
    sandbox
}

fn store(sandbox: &Sandbox, file: &str, password: &str) -> KeyStore {
    let bytes = std::fs::read(sandbox.path(file)).unwrap();
    KeyStore::from_pkcs12(&bytes, password, Pkcs12ImportPolicy::Strict).unwrap()
}

#[test]
fn every_form_holds_the_identity_and_only_its_owner_reads_a_key() {
    let sandbox = exported("orders");
    let key = KeyPair::from_pem(&sandbox.read("certs/orders/tls.key")).unwrap();
    for file in ["modern.p12", "compatible.p12"] {
        let store = store(&sandbox, file, "changeit");
        let Some(KeyStoreEntry::PrivateKeyChain(entry)) = store.entry("orders") else {
            panic!("{file} holds no key of orders");
        };
        assert_eq!(entry.key().as_der(), key.serialize_der());
        assert_eq!(entry.certs().len(), 2);
    }
    assert_eq!(store(&sandbox, "trust.p12", "changeit").entries_len(), 1);
    assert_eq!(
        sandbox.read("chain.pem"),
        sandbox.read("certs/orders/tls.crt")
    );
    for (file, mode) in [
        ("modern.p12", 0o600),
        ("compatible.p12", 0o600),
        ("bundle.pem", 0o600),
        ("trust.p12", 0o644),
        ("chain.pem", 0o644),
    ] {
        let found = sandbox.path(file).metadata().unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    let file = |name: &str| PemFile::read(&sandbox.path(name)).unwrap();
    Snapshot::of_files(
        Role::Client,
        file("bundle.pem"),
        file("bundle.pem"),
        file("certs/orders/ca.crt"),
        None,
        ExpiredCrls::Refuse,
    )
    .unwrap();
}

#[test]
fn a_password_is_random_and_shown_or_from_a_file_and_not_shown() {
    let sandbox = Sandbox::with_pki();
    let shown = sandbox.succeed(&["pki", "export", "orders", "--p12", "a.p12"]);
    let password = shown
        .lines()
        .find_map(|line| line.split("the password is ").nth(1));
    store(&sandbox, "a.p12", password.unwrap());
    sandbox.write("password", "correct horse\n");
    let from_file = [
        "pki",
        "export",
        "orders",
        "--p12",
        "a.p12",
        "--password-file",
        "password",
    ];
    assert!(!sandbox.succeed(&from_file).contains("password is"));
    store(&sandbox, "a.p12", "correct horse");
    for bad in ["", "short", "pässwort", "tab\there"] {
        sandbox.refuse(
            &[
                "pki",
                "export",
                "orders",
                "--p12",
                "b.p12",
                "--password",
                bad,
            ],
            "6 to 128 visible ASCII",
        );
    }
    assert!(!sandbox.path("b.p12").exists());
}

#[test]
fn nothing_is_written_over_the_authority_or_in_part() {
    let sandbox = Sandbox::with_pki();
    let before = sandbox.snapshot();
    for target in ["certs/ca/root.crt", "./certs/../certs/ca/new.p12"] {
        sandbox.refuse(
            &[
                "pki", "export", "orders", "--chain", "x.pem", "--bundle", target,
            ],
            "among the files of the CA",
        );
    }
    sandbox.refuse(
        &[
            "pki",
            "export",
            "orders",
            "--chain",
            "x.pem",
            "--bundle",
            "missing/x.pem",
        ],
        "cannot write missing/x.pem",
    );
    sandbox.refuse(
        &["pki", "export", "nobody", "--chain", "x.pem"],
        "nobody has no certificate here",
    );
    assert_eq!(sandbox.snapshot(), before);
    sandbox.write(
        "certs/orders/tls.key",
        sandbox.read("certs/catalog/tls.key"),
    );
    sandbox.refuse(
        &["pki", "export", "orders", "--p12", "x.p12"],
        "not the key of its certificate",
    );
}

#[test]
fn the_way_into_each_store_is_told() {
    let sandbox = Sandbox::with_pki();
    let before = sandbox.snapshot();
    let told = sandbox.succeed(&["pki", "export", "orders"]);
    for command in [
        "pk12util -d sql:$HOME/.pki/nssdb -i orders.p12",
        "security import orders-compatible.p12",
        "Import-PfxCertificate orders.p12",
        "certutil -d sql:$HOME/.pki/nssdb -A -t CT,, -n countersign-root -i certs/orders/ca.crt",
        "trust anchor --store certs/orders/ca.crt",
        "cp certs/orders/ca.crt /usr/local/share/ca-certificates/countersign.crt",
        "cp certs/orders/ca.crt /etc/pki/ca-trust/source/anchors/countersign.crt",
        "security add-trusted-cert",
        "Import-Certificate certs/orders/ca.crt",
        "keyStore=orders.p12",
    ] {
        assert!(told.contains(command), "{command}: {told}");
    }
    assert_eq!(sandbox.snapshot(), before);
    let told = sandbox.succeed(&["pki", "export", "orders", "--p12", "it's mine.p12"]);
    let command = r"pk12util -d sql:$HOME/.pki/nssdb -i 'it'\''s mine.p12'";
    assert!(told.contains(command), "{told}");
}

#[test]
fn openssl_finds_the_encodings_that_are_promised() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = exported("orders");
    for (file, encodings) in [
        (
            "modern.p12",
            [
                "MAC: sha256",
                "AES-256-CBC, Iteration 10000, PRF hmacWithSHA256",
            ],
        ),
        (
            "compatible.p12",
            ["MAC: sha1", "pbeWithSHA1And3-KeyTripleDES-CBC"],
        ),
    ] {
        let arguments = [
            "pkcs12",
            "-info",
            "-nokeys",
            "-passin",
            "pass:changeit",
            "-in",
            file,
        ];
        let (read, said) = run_other(&sandbox, "openssl", &arguments);
        assert!(read, "{said}");
        for encoding in encodings {
            assert!(said.contains(encoding), "{file} {encoding}: {said}");
        }
        assert_eq!(said.matches("BEGIN CERTIFICATE").count(), 2, "{said}");
    }
}

#[test]
fn keytool_lists_the_key_and_the_root_that_it_trusts() {
    if is_missing("keytool", "-help") {
        return;
    }
    let sandbox = exported("mainframe");
    for (file, entry) in [
        ("modern.p12", "PrivateKeyEntry"),
        ("compatible.p12", "PrivateKeyEntry"),
        ("trust.p12", "trustedCertEntry"),
    ] {
        let arguments = ["-list", "-keystore", file, "-storepass", "changeit"];
        let (read, said) = run_other(&sandbox, "keytool", &arguments);
        assert!(
            read && said.contains("contains 1 entry") && said.contains(entry),
            "{file}: {said}"
        );
    }
}

#[test]
fn nss_takes_it_in_uses_it_and_gives_it_up_by_the_commands_that_are_shown() {
    if is_missing("certutil", "-H")
        || is_missing("pk12util", "-H")
        || is_missing("bash", "--version")
    {
        return;
    }
    let sandbox = exported("orders");
    for file in ["modern.p12", "compatible.p12"] {
        let (read, said) = run_other(&sandbox, "pk12util", &["-l", file, "-W", "changeit"]);
        assert!(read && said.contains("Key(shrouded)"), "{file}: {said}");
    }
    let shown = sandbox.succeed(&[
        "pki",
        "export",
        "orders",
        "--p12",
        "new.p12",
        "--password",
        "changeit",
    ]);
    let shown: Vec<&str> = shown.lines().collect();
    // The command of a line such as `  import   pk12util …` under a heading, in a home of its own.
    let run = |heading: &str, verb: &str, rest: &str| {
        let section = shown.iter().skip_while(|line| !line.starts_with(heading));
        let command = section
            .skip(1)
            .find_map(|line| line.trim_start().strip_prefix(verb))
            .unwrap_or_else(|| panic!("{heading}: no {verb}: {shown:?}"));
        let script = format!("export HOME=$PWD/home; {}{rest}", command.trim());
        let (done, said) = run_other(&sandbox, "bash", &["-c", &script]);
        assert!(done, "{script}: {said}");
        said
    };
    let tool = |arguments: &[&str]| {
        let database = ["-d", "sql:home/.pki/nssdb"];
        run_other(&sandbox, "certutil", &[&database, arguments].concat())
    };
    let valid = || tool(&["-V", "-u", "C", "-e", "-n", "orders"]);
    let (key, root) = ("Chromium on Linux (NSS; Debian", "Chromium on Linux (NSS)");
    // A comment ends the line.
    run(key, "create", "\n");
    run(key, "import", " -W changeit");
    assert!(!valid().0, "without its root");
    run(root, "trust", "");
    assert!(valid().0, "{}", valid().1);
    run(root, "remove", "");
    assert!(!valid().0, "without its root again");
    let removal = tool(&["-F", "-n", "orders"]);
    assert!(removal.0, "{}", removal.1);
    let keys = tool(&["-K"]).1;
    assert!(!keys.contains("orders"), "{keys}");
}

#[test]
fn an_exported_key_has_no_reader_of_the_file_that_it_replaces() {
    let sandbox = exported("orders");
    let file = sandbox.path("all.pem");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    sandbox.succeed(&["pki", "export", "orders", "--bundle", "all.pem"]);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
