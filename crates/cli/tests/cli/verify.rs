//! `countersign cert verify`: the verdict of the services' verifier, held against openssl's.

use std::collections::BTreeSet;
use std::path::Path;

use crate::faults::{Faults, FaultyChain, alone, client, hour, self_signed, server};
use crate::openssl;
use crate::tool::{Run, Sandbox, is_missing, run_other};
use countersign_cli::pki::Authority;

impl FaultyChain {
    /// The arguments of `cert verify`, with the files in place.
    fn arguments(&self, sandbox: &Sandbox) -> Vec<&str> {
        sandbox.write("chain.pem", &self.chain);
        let mut arguments = vec![
            "cert",
            "verify",
            "--ca",
            "ca.pem",
            "--purpose",
            self.purpose,
            "chain.pem",
        ];
        if let Some(name) = self.expected {
            arguments.extend(["--name", name]);
        }
        if let Some(crl) = &self.crl {
            sandbox.write("crl.pem", crl);
            arguments.extend(["--crl", "crl.pem"]);
        }
        arguments
    }
}

/// One line, without anything that a terminal would obey.
fn assert_one_line(text: &str) {
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains(char::is_control), "{text:?}");
    assert!(line.len() < 2500, "{text}");
}

#[test]
fn each_fault_has_its_code_and_one_line() {
    let sandbox = Sandbox::empty();
    let Faults { root, all } = Faults::mint();
    sandbox.write("ca.pem", root);
    let mut wrong = Vec::new();
    for fault in &all {
        let Run { code, out, err } = sandbox.run(&fault.arguments(&sandbox));
        let warned = match fault.name {
            "list of another issuer" => "warning: a revocation list is of CN=",
            _ => "",
        };
        assert!(err.starts_with(warned), "{}: {err}", fault.name);
        assert_eq!(err.is_empty(), warned.is_empty(), "{}: {err}", fault.name);
        assert_one_line(&out);
        let (exit, begin) = fault
            .ours
            .map_or((0, "accepted".to_owned()), |code| (1, code.to_owned()));
        if code != exit || !out.starts_with(&format!("{begin}: ")) {
            wrong.push(format!("{}: {out}", fault.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_order_is_named_as_such() {
    let sandbox = Sandbox::empty();
    let Faults { root, all } = Faults::mint();
    sandbox.write("ca.pem", root);
    let reversed = all.iter().find(|fault| fault.name == "reversed").unwrap();
    let said = sandbox.run(&reversed.arguments(&sandbox)).out;
    assert!(
        said.contains(
            "certificate 1 in chain.pem was not issued by the next one: the order is leaf, then"
        ),
        "{said}"
    );
}

#[test]
fn the_time_is_the_one_that_is_given() {
    let sandbox = Sandbox::empty();
    let root = Authority::root("root", hour()).unwrap();
    sandbox.write("ca.pem", root.certificate_pem());
    sandbox.write("chain.pem", root.issue(&client()).unwrap().chain_pem);
    let at = |time| {
        sandbox.run(&[
            "cert",
            "verify",
            "--ca",
            "ca.pem",
            "--purpose",
            "client",
            "--time",
            time,
            "chain.pem",
        ])
    };
    for (time, code) in [
        ("1960-01-01T00:00:00Z", "CERTIFICATE_NOT_YET_VALID: "),
        ("2020-01-01T00:00:00+01:00", "CERTIFICATE_NOT_YET_VALID: "),
        ("9999-12-31T23:59:59Z", "CERTIFICATE_EXPIRED: "),
    ] {
        let Run {
            code: exit, out, ..
        } = at(time);
        assert_eq!(exit, 1);
        assert!(out.starts_with(code), "{time}: {out}");
    }
    let Run { code, err, .. } = at("yesterday");
    assert_eq!(code, 64);
    assert!(err.contains("2026-07-01T12:00:00Z"), "{err}");
}

#[test]
fn roots_may_be_several_in_one_file_or_in_many_with_comments_between() {
    let sandbox = Sandbox::empty();
    let [one, two, three] =
        ["one", "two", "three"].map(|name| Authority::root(name, hour()).unwrap());
    let bundle = format!(
        "\u{feff}# ours\n{}subject=CN = two\n\n{}",
        one.certificate_pem(),
        two.certificate_pem().replace('\n', "\r\n")
    );
    sandbox.write("bundle.pem", bundle);
    sandbox.write("three.pem", three.certificate_pem());
    for (root, code) in [(&one, 0), (&two, 0), (&three, 0)] {
        sandbox.write("chain.pem", root.issue(&server()).unwrap().chain_pem);
        let run = sandbox.run(&[
            "cert",
            "verify",
            "--ca",
            "bundle.pem",
            "--ca",
            "three.pem",
            "--purpose",
            "server",
            "--name",
            "localhost",
            "chain.pem",
        ]);
        assert_eq!(run.code, code, "{}", run.out);
    }
}

#[test]
fn a_self_signed_leaf_is_no_root_and_a_self_signed_ca_no_leaf() {
    let sandbox = Sandbox::empty();
    for (is_ca, said) in [(false, "basicConstraints"), (true, "LEAF_IS_CA: ")] {
        sandbox.write("own.pem", self_signed(is_ca));
        let arguments = [
            "cert",
            "verify",
            "--purpose",
            "client",
            "--ca",
            "own.pem",
            "own.pem",
        ];
        let run = sandbox.run(&arguments);
        let out = format!("{}{}", run.out, run.err);
        assert!(out.contains(said), "{out}");
    }
}

#[test]
fn an_expired_list_is_honoured_or_refused_as_told() {
    let sandbox = Sandbox::empty();
    let Faults { root, all } = Faults::mint();
    sandbox.write("ca.pem", root);
    let expired = all
        .iter()
        .find(|fault| fault.name == "expired list")
        .unwrap();
    let mut arguments = expired.arguments(&sandbox);
    arguments.push("--refuse-expired-crl");
    let said = sandbox.run(&arguments).out;
    assert!(said.starts_with("CRL_EXPIRED: "), "{said}");
}

#[test]
fn an_authority_whose_key_is_not_accepted_is_named() {
    if is_missing("openssl", "version") {
        return;
    }
    let sandbox = Sandbox::empty();
    sandbox.write(
        "leaf.cnf",
        "extendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=URI:spiffe://acme.test/orders\n",
    );
    for words in [
        "req -x509 -newkey rsa:1024 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=weak -addext keyUsage=keyCertSign",
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out csr -subj /",
        "x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile leaf.cnf -out chain.pem",
    ] {
        let words: Vec<&str> = words.split_whitespace().collect();
        let (made, said) = run_other(&sandbox, "openssl", &words);
        assert!(made, "{said}");
    }
    let arguments = [
        "cert",
        "verify",
        "--ca",
        "ca.pem",
        "--purpose",
        "client",
        "chain.pem",
    ];
    let said = sandbox.run(&arguments).out;
    assert!(
        said.starts_with(
            "KEY_NOT_ACCEPTED: chain.pem: the root CN=weak of ca.crt: the key of the certificate is not accepted: it is \
             RSA of 1024 bits"
        ),
        "{said}"
    );
}

#[test]
fn what_is_no_chain_is_refused_and_what_is_no_root_is_an_error() {
    let sandbox = Sandbox::empty();
    let root = Authority::root("root", hour()).unwrap();
    let leaf = root.issue(&client()).unwrap();
    sandbox.write("ca.pem", root.certificate_pem());
    sandbox.write("chain.pem", &leaf.chain_pem);
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    let noise: Vec<u8> = (0..17_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let damaged = leaf.chain_pem.replacen("MII", "!!!", 1);
    let nothing = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    let utf16: Vec<u8> = b"\xff\xfe"
        .iter()
        .copied()
        .chain(leaf.chain_pem.bytes().flat_map(|b| [b, 0]))
        .collect();
    let contents: [(&str, &[u8], &str, &str); 9] = [
        (
            "empty",
            b"",
            "CERTIFICATE_MISSING",
            "holds no certificate: there is no PEM",
        ),
        (
            "key",
            leaf.key_pem.as_bytes(),
            "CERTIFICATE_MISSING",
            "holds no certificate, but PRIVATE KEY",
        ),
        (
            "truncated",
            &leaf.chain_pem.as_bytes()[..300],
            "CERTIFICATE_MALFORMED",
            "it is cut off",
        ),
        (
            "damaged",
            damaged.as_bytes(),
            "CERTIFICATE_MALFORMED",
            "is not base64",
        ),
        (
            "nothing",
            nothing.as_bytes(),
            "CERTIFICATE_MALFORMED",
            "certificate 1 in nothing is not usable: it is cut short",
        ),
        (
            "short noise",
            &noise[1..4096],
            "CERTIFICATE_MALFORMED",
            "bytes that are no text",
        ),
        (
            "DER",
            &leaf.chain[0],
            "CERTIFICATE_MALFORMED",
            "is DER, not PEM: convert it with `openssl x509 -inform DER",
        ),
        (
            "UTF-16",
            &utf16,
            "CERTIFICATE_MALFORMED",
            "is UTF-16, not PEM",
        ),
        (
            "keystore",
            b"\xfe\xed\xfe\xed\0\0\0\x02",
            "CERTIFICATE_MALFORMED",
            "is a Java keystore",
        ),
    ];
    let verify = |ca, crl: Option<&str>, chain| {
        let arguments = ["cert", "verify", "--purpose", "client", "--ca", ca, chain];
        let crl = crl.map(|crl| vec!["--crl", crl]).unwrap_or_default();
        sandbox.run(&[&arguments[..], &crl].concat())
    };
    for (name, bytes, code, why) in contents {
        sandbox.write(name, bytes);
        let Run {
            code: exit,
            out,
            err,
        } = verify("ca.pem", None, name);
        assert_eq!((exit, &*err), (1, ""), "{name}");
        assert_one_line(&out);
        assert!(out.starts_with(code) && out.contains(why), "{name}: {out}");
        for run in [
            verify(name, None, "chain.pem"),
            verify("ca.pem", Some(name), "chain.pem"),
        ] {
            assert_eq!((run.code, &*run.out), (64, ""), "{name}");
            assert_one_line(&run.err);
            assert!(run.err.contains(name), "{}", run.err);
        }
    }
    sandbox.write("noise", &noise);
    for (name, why) in [
        ("noise", "larger than"),
        ("directory", "not a regular file"),
        ("missing", "cannot read missing"),
        ("a\u{1b}[31m\nb", "cannot read a\\u{1b}[31m\\nb"),
    ] {
        for run in [
            verify("ca.pem", None, name),
            verify(name, None, "chain.pem"),
            verify("ca.pem", Some(name), "chain.pem"),
        ] {
            assert_eq!((run.code, &*run.out), (64, ""), "{name}");
            assert_one_line(&run.err);
            assert!(run.err.contains(why), "{name}: {}", run.err);
        }
    }
}

/// Where our verdict is not openssl's, docs/interop.md says why, and says so of nothing else.
#[test]
fn the_verdict_is_that_of_openssl_or_the_difference_is_explained() {
    if openssl::is_missing() {
        return;
    }
    let sandbox = Sandbox::empty();
    std::fs::create_dir(sandbox.path("certs")).unwrap();
    let Faults { root, all } = Faults::mint();
    sandbox.write("ca.pem", root);
    let mut wrong = Vec::new();
    for fault in &all {
        sandbox.write("chain.pem", &fault.chain);
        sandbox.write("leaf.pem", alone(&fault.chain));
        let mut arguments = format!(
            "verify -x509_strict -purpose ssl{} -CAfile ../ca.pem -untrusted ../chain.pem",
            fault.purpose
        );
        match fault.expected {
            // openssl has no notion of a SPIFFE ID.
            Some(name) if name.contains("://") => {}
            Some(name) if name.starts_with("127") => {
                arguments.push_str(&format!(" -verify_ip {name}"));
            }
            Some(name) => arguments.push_str(&format!(" -verify_hostname {name}")),
            None => {}
        }
        if let Some(crl) = &fault.crl {
            sandbox.write("crl.pem", crl);
            arguments.push_str(" -crl_check -CRLfile ../crl.pem");
        }
        let (accepted, said) = openssl::run(&sandbox, &format!("{arguments} ../leaf.pem")).unwrap();
        if accepted != fault.openssl.is_none() || !said.contains(fault.openssl.unwrap_or("OK")) {
            wrong.push(format!("{}: {said}", fault.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let differing: BTreeSet<&str> = all
        .iter()
        .filter(|fault| fault.ours.is_some() != fault.openssl.is_some())
        .map(|fault| fault.name)
        .collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/interop.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, table) = docs.split_once("<!-- differences -->").unwrap();
    let explained: BTreeSet<&str> = table
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .skip(1)
        .map_while(|line| line.strip_prefix("| ")?.split(" | ").next())
        .collect();
    assert_eq!(explained, differing);
}
