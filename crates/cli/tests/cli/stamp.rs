//! `countersign new`: what it stamps builds, passes its own tests and shows its own demo; what it refuses leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tool::Sandbox;

#[test]
fn a_bad_name_or_place_is_refused_in_words_and_nothing_is_written() {
    let sandbox = Sandbox::empty();
    sandbox.write("taken", "a file");
    fs::create_dir(sandbox.path("empty")).unwrap();
    fs::create_dir_all(sandbox.path("house/crates")).unwrap();
    sandbox.write(
        "house/Cargo.toml",
        "[workspace]\nmembers = [\"crates/*\"]\n",
    );
    std::os::unix::fs::symlink("nowhere", sandbox.path("dangling")).unwrap();
    let before = sandbox.snapshot();
    let kebab = "lower-case letter";
    let shape = "package.vN.NameService";
    for (arguments, why) in [
        (&["Payments"][..], kebab),
        (&["1st"], kebab),
        (&["pay ments"], kebab),
        (&["../payments"], kebab),
        (&[""], kebab),
        (&["zahlung\u{fc}"], kebab),
        (&["payments-"], "must not end in"),
        (&["match"], "keyword"),
        (&["gen"], "keyword"),
        (&["test"], "reserved"),
        (&["core"], "reserved"),
        (&["std"], "reserved"),
        (&["Self"], kebab),
        (&["self"], "keyword"),
        (&["crate"], "keyword"),
        (&["frontend"], "reserved"),
        (&["service"], "reserved"),
        (&["ca"], "reserved"),
        (&["tonic"], "a dependency"),
        (&["countersign-cli"], "a dependency"),
        (&["payments", "--service", "PaymentService"], shape),
        (&["payments", "--service", "payments.PaymentService"], shape),
        (
            &["payments", "--service", "payments.two.PaymentService"],
            "a version",
        ),
        (
            &["payments", "--service", "payments.v0.PaymentService"],
            "a version",
        ),
        (
            &["payments", "--service", "Payments.v1.PaymentService"],
            "\"Payments\"",
        ),
        (
            &["payments", "--service", "pay-ments.v1.PaymentService"],
            "\"pay-ments\"",
        ),
        (
            &["payments", "--service", "acme..v1.PaymentService"],
            "\"\"",
        ),
        (
            &["payments", "--service", "acme.type.v1.PaymentService"],
            "keyword",
        ),
        (
            &["payments", "--service", "self.v1.PaymentService"],
            "keyword",
        ),
        (
            &["payments", "--service", "crate.v1.PaymentService"],
            "keyword",
        ),
        (
            &["payments", "--service", "Self.v1.PaymentService"],
            "\"Self\"",
        ),
        (&["payments", "--service", ""], shape),
        (&["payments", "--service", ".v1.PaymentService"], "\"\""),
        (
            &["payments", "--service", "payments.v1.Payment Service"],
            "CamelCase",
        ),
        (
            &["payments", "--service", "payments.v1.paymentService"],
            "CamelCase",
        ),
        (
            &["payments", "--service", "payments.v1.Payment"],
            "end in Service",
        ),
        (
            &["payments", "--service", "payments.v1.Service"],
            "end in Service",
        ),
        (
            &["payments", "--service", "payments.v1.HTTPService"],
            "two capitals",
        ),
        (&["taken"], "exists already"),
        (&["empty"], "exists already"),
        (&["payments", "--path", "empty"], "exists already"),
        (&["payments", "--path", "dangling"], "exists already"),
        (&["payments", "--path", "."], "exists already"),
        (&["payments", "--path", "missing/payments"], "missing: "),
        (&["payments", "--path", "taken/payments"], "taken: "),
        (
            &["payments", "--path", "house/payments"],
            "house/Cargo.toml, and",
        ),
        (
            &["payments", "--path", "house/crates/payments"],
            "is inside the workspace of",
        ),
    ] {
        sandbox.refuse(&[&["new"], arguments].concat(), why);
    }
    assert_eq!(sandbox.snapshot(), before);
    let left = fs::read_dir(sandbox.path("")).unwrap().count();
    assert_eq!(left, 4);
    assert_eq!(fs::read_dir(sandbox.path("house")).unwrap().count(), 2);
    // Where nobody may write, not even who runs everything as root.
    if Path::new("/proc/self").exists() {
        sandbox.refuse(&["new", "payments", "--path", "/proc/payments"], "/proc: ");
    }
}

#[test]
fn a_stamped_service_is_small_and_holds_no_word_of_the_example_or_the_template() {
    let sandbox = Sandbox::empty();
    sandbox.succeed(&[
        "new",
        "payments",
        "--service",
        "acme.payments.v2.PaymentService",
    ]);
    let files = sandbox.snapshot();
    let mut lines = 0;
    for (path, contents) in &files {
        let text = format!("{}\n{}", path.display(), String::from_utf8_lossy(contents));
        lines += text.lines().count() - 1;
        let text = text
            .replace(repository().to_str().unwrap(), "")
            .to_lowercase();
        for word in ["inventory", "sku", "reserv", "stock", "template"] {
            assert!(!text.contains(word), "{} says {word}", path.display());
        }
    }
    assert!(files.len() <= 10, "{} files", files.len());
    assert!(lines <= 500, "{lines} lines");
    assert!(
        sandbox
            .path("payments/proto/acme/payments/v2/payments.proto")
            .is_file()
    );
}

/// With another package than the name suggests, so that no name stands where another belongs.
#[test]
fn a_stamped_service_builds_passes_its_tests_and_shows_its_demo() {
    let sandbox = Sandbox::empty();
    let service = "acme.card_payments.v2.PaymentService";
    sandbox.succeed(&["new", "payments", "--service", service]);
    let service = sandbox.path("payments");
    // The versions that are here, and what was built of them.
    fs::copy(repository().join("Cargo.lock"), service.join("Cargo.lock")).unwrap();
    let said = text(&cargo(&service, &["test"]));
    for test in ["every_rpc_has_a_rule", "every_identity_may_call"] {
        assert!(said.contains(test), "{said}");
    }
    let said = text(&cargo(
        &service,
        &["run", "--example", "countersign", "--", "demo"],
    ));
    for shown in [
        "allow ok",
        "deny  denied",
        "-     refused",
        "CERTIFICATE_REVOKED",
        "All of it was as expected",
    ] {
        assert!(said.contains(shown), "{said}");
    }

    // Its policy is checked against its own contract, by the tool that it has.
    let said = text(&cargo(
        &service,
        &[
            "run",
            "--example",
            "countersign",
            "--",
            "policy",
            "check",
            "policy.json",
            "--strict",
        ],
    ));
    for shown in [
        "checked against proto (5 RPCs of acme.card_payments.v2.PaymentService, grpc.health.v1.Health",
        "0 errors, 0 warnings",
    ] {
        assert!(said.contains(shown), "{said}");
    }

    // An RPC more, and no rule for it: the test names it.
    let proto = service.join("proto/acme/card_payments/v2/card_payments.proto");
    edit(
        &proto,
        "service PaymentService {",
        "service PaymentService {\n  rpc Refund(GreetRequest) returns (GreetResponse);",
    );
    let main = service.join("src/main.rs");
    let handler = "async fn refund(&self, request: Request<GreetRequest>) -> Result<Response<GreetResponse>, Status> { self.greet(request).await }\n    async fn greet(";
    edit(&main, "async fn greet(", handler);
    let output = cargo_output(&service, &["test", "every_rpc"]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(
        said.contains("/acme.card_payments.v2.PaymentService/Refund"),
        "{said}"
    );
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn cargo(dir: &Path, arguments: &[&str]) -> Output {
    let output = cargo_output(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    output
}

/// In the target directory of this test, so that what is built there already is not built again.
fn cargo_output(dir: &Path, arguments: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (command, rest) = arguments.split_first().unwrap();
    let mut cargo = Command::new(cargo);
    cargo
        .arg(command)
        .arg("--offline")
        .args(rest)
        .current_dir(dir);
    // What cargo and a shell say to this test is not for that service.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("APP_")
            || name.starts_with("CARGO_PKG")
            || name.starts_with("CARGO_MANIFEST")
        {
            cargo.env_remove(&*name);
        }
    }
    cargo.env("CARGO_TARGET_DIR", target()).output().unwrap()
}

/// The directory that this test was built in.
fn target() -> PathBuf {
    let tool = Path::new(env!("CARGO_BIN_EXE_countersign"));
    tool.ancestors().nth(2).unwrap().to_owned()
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}
