//! What each command does with a file that is not regular, or that an editor, a shell or a Secret has changed.

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
    assert!(run_other(&sandbox, "mkfifo", &["piped/a.proto"]).0);
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
        "policy check p.json --api piped",
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

/// What becomes of a file, and of whom it is known.
type Change = (&'static str, fn(&str) -> Vec<u8>);

const CHANGES: [Change; 12] = [
    ("as it is", |text| text.into()),
    ("byte order mark", |text| format!("\u{feff}{text}").into()),
    ("CRLF", |text| text.replace('\n', "\r\n").into()),
    ("blank lines", |text| format!("\n\n{text}\n \n").into()),
    ("UTF-16", |text| {
        let units = format!("\u{feff}{text}");
        units.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }),
    ("double quotes", |text| {
        format!("\"{}\"", text.trim()).into()
    }),
    ("single quotes", |text| format!("'{}'", text.trim()).into()),
    ("indented", |text| {
        let lines = text.lines().map(|line| format!("  {line}\n"));
        lines.collect::<String>().into()
    }),
    ("base64", |text| {
        let section = pem::encode(&pem::Pem::new("X", text));
        let body = section.lines().filter(|line| !line.starts_with('-'));
        body.collect::<Vec<_>>().join("\n").into()
    }),
    ("no line breaks", |text| text.replace('\n', "\\n").into()),
    ("nothing", |_text| Vec::new()),
    ("a page", |_text| "<!DOCTYPE html>\n<html></html>\n".into()),
];

/// `Ok` when the file is read as it was before the change, or what the refusal says.
type Expected = Result<(), &'static str>;

const READ: Expected = Ok(());

/// Of a PEM file, by the changes above.
fn pem_expected(nothing: &'static str) -> [Expected; 12] {
    [
        READ,
        READ,
        READ,
        READ,
        Err("UTF-16"),
        Err("line 1: a marker is quoted: remove the quotation marks"),
        Err("line 1: a marker is quoted: remove the quotation marks"),
        Err("line 1: a marker is indented: remove the blanks before it"),
        Err(
            "line 1: it is PEM in base64 once more, as in a Kubernetes Secret: decode it with `base64 -d`",
        ),
        Err("line 1: its line breaks are written as \\n"),
        Err(nothing),
        Err("line 1: it is a page of HTML or XML: fetch the file itself"),
    ]
}

/// Of a JSON file.
const JSON: [Expected; 12] = [
    READ,
    Err("it begins with a byte order mark: save it as UTF-8 without one"),
    READ,
    READ,
    Err("it is UTF-16: save it as UTF-8"),
    Err("it is JSON inside a JSON string: decode it once"),
    Err("there are quotes around it: remove them"),
    READ,
    Err("it is in base64, as in a Kubernetes Secret: decode it with `base64 -d`"),
    Err("line 1"),
    Err("EOF while parsing"),
    Err("it is a page of HTML or XML: fetch the file itself"),
];

/// Of a TOML file.
const TOML: [Expected; 12] = [
    READ,
    READ,
    READ,
    READ,
    Err("it is UTF-16: save it as UTF-8"),
    Err("there are quotes around it: remove them"),
    Err("there are quotes around it: remove them"),
    READ,
    Err("it is in base64, as in a Kubernetes Secret: decode it with `base64 -d`"),
    Err(""),
    Err(""),
    Err("it is a page of HTML or XML: fetch the file itself"),
];

#[test]
fn a_changed_file_is_read_or_called_by_what_it_is_in_each_reader() {
    let sandbox = Sandbox::with_pki();
    sandbox.succeed(&["pki", "revoke", "marketing"]);
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key);
    sandbox.write("w.csr", request.unwrap().pem().unwrap());
    sandbox.write(
        "p.json",
        "{\n\"name\": \"p\",\n\"allow_rules\": [{\"name\": \"r\"}]\n}\n",
    );
    sandbox.write("cases.json", "{\n\"cases\": [{\"name\": \"c\", \"peer\": {\"subject\": \"CN=a\"},\n\"method\": \"/a.B/C\", \"expect\": \"allow\"}]\n}\n");
    sandbox.write(
        "peers.json",
        "{\n\"peers\": [{\"name\": \"c\",\n\"peer\": {\"subject\": \"CN=a\"}}]\n}\n",
    );
    sandbox.write(
        "dev.toml",
        "[a]\nusage = 'client'\nuris = ['spiffe://{trust_domain}/a']\n",
    );
    let certificate = "holds no certificate: there is no PEM section in it";
    let readers: [(&str, &str, [Expected; 12]); 13] = [
        (
            "certs/orders/tls.crt",
            "cert show certs/orders/tls.crt",
            pem_expected(certificate),
        ),
        (
            "certs/orders/tls.crt",
            "cert verify --ca certs/orders/ca.crt --purpose client certs/orders/tls.crt",
            pem_expected(certificate),
        ),
        (
            "certs/orders/tls.crt",
            "policy explain --policy p.json --method /a.B/C --cert certs/orders/tls.crt",
            pem_expected(certificate),
        ),
        (
            "certs/orders/ca.crt",
            "cert verify --ca certs/orders/ca.crt --purpose client certs/orders/tls.crt",
            pem_expected(certificate),
        ),
        (
            "certs/orders/crl.pem",
            "cert verify --ca certs/orders/ca.crt --crl certs/orders/crl.pem --purpose client certs/orders/tls.crt",
            pem_expected("holds no revocation list"),
        ),
        (
            "certs/ca/issuing.key",
            "pki list",
            pem_expected("holds no private key"),
        ),
        (
            "certs/ca/issuing.crt",
            "pki list",
            pem_expected(certificate),
        ),
        ("certs/ca/root.crt", "pki list", pem_expected(certificate)),
        (
            "certs/ca/crl.pem",
            "pki list",
            pem_expected("holds no revocation list"),
        ),
        (
            "w.csr",
            "pki issue w --dns w.test --replace --csr w.csr",
            pem_expected("it holds no certificate signing request in PEM"),
        ),
        ("p.json", "policy check p.json --api none", JSON),
        ("cases.json", "policy test --policy p.json cases.json", JSON),
        ("dev.toml", "pki prune --identities dev.toml", TOML),
    ];
    for (file, command, expected) in readers {
        let text = sandbox.read(file);
        let words: Vec<&str> = command.split(' ').collect();
        for ((change, apply), expected) in CHANGES.iter().zip(expected) {
            // In place, so that its mode stays.
            sandbox.write(file, apply(&text));
            let run = sandbox.run(&words);
            let said = format!("{}{}", run.out, run.err);
            match expected {
                Ok(()) => assert_eq!(run.code, 0, "{command}, {change}: {said}"),
                Err(why) => {
                    assert!(run.code != 0, "{command}, {change}: {said}");
                    assert!(said.contains(why), "{command}, {change}: {said}");
                    assert!(
                        said.lines().count() == 1 && said.len() < 500,
                        "{command}, {change}: {said}"
                    );
                }
            }
            sandbox.write(file, &text);
        }
    }
}
