//! What each command does with a file that is not regular.

use crate::tool::{Sandbox, is_missing, run_other};

#[test]
fn no_command_waits_for_a_fifo() {
    if is_missing("mkfifo", "--version") {
        return;
    }
    let sandbox = Sandbox::with_pki();
    assert!(run_other(&sandbox, "mkfifo", &["fifo", "fifo.proto"]).0);
    sandbox.write("p.json", r#"{"name":"p","allow_rules":[{"name":"r"}]}"#);
    std::fs::create_dir(sandbox.path("piped")).unwrap();
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        assert!(run_other(&sandbox, "mkfifo", &[&format!("piped/{file}")]).0);
    }
    for command in [
        "cert show fifo",
        "cert verify --ca fifo --purpose client certs/orders/tls.crt",
        "cert verify --ca certs/orders/ca.crt --purpose client fifo",
        "cert verify --ca certs/orders/ca.crt --crl fifo --purpose client certs/orders/tls.crt",
        "pki --dir other init --identities fifo",
        "pki issue web --csr fifo --as-requested",
        "policy check fifo",
        "policy check p.json --api fifo",
        "policy check p.json --api fifo.proto",
        "policy test --policy p.json fifo",
        "policy explain --policy p.json --method /a.B/C --cert fifo",
        "doctor localhost:1 --tls-dir piped",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let tool = env!("CARGO_BIN_EXE_countersign");
        let (done, said) = run_other(&sandbox, "timeout", &[&["20", tool], &words[..]].concat());
        assert!(!done, "{command}: {said}");
        assert!(said.contains("not a regular file"), "{command}: {said}");
    }
    for file in ["root.crt", "issuing.key", "issuing.crt"] {
        let sandbox = Sandbox::with_pki();
        let path = format!("certs/ca/{file}");
        std::fs::remove_file(sandbox.path(&path)).unwrap();
        assert!(run_other(&sandbox, "mkfifo", &["-m", "600", &path]).0);
        let command = ["20", env!("CARGO_BIN_EXE_countersign"), "pki", "list"];
        let (done, said) = run_other(&sandbox, "timeout", &command);
        assert!(
            !done && said.contains("not a regular file"),
            "{file}: {said}"
        );
    }
}
