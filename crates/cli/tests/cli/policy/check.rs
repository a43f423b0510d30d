//! `policy check`: what counts against a policy, and what is none.

use serde_json::{Value, json};

use super::{GET, POLICY, case, descriptor_set, sandbox};
use crate::tool::Sandbox;

const SHOP: &str = r#"syntax = "proto3";
package shop.v1;
service Shop {
  rpc Get(Item) returns (Item);
  rpc Put(Item) returns (Item);
}
message Item {}
"#;

#[test]
fn a_check_counts_against_the_policy_what_is_surely_wrong_and_strictly_what_may_be() {
    let sandbox = sandbox();
    let check =
        |arguments: &[&str]| sandbox.run(&[&["policy", "check", "p.json"], arguments].concat());
    // The rules are for another service than this one.
    sandbox.write("other.proto", SHOP.replace("shop.v1", "other.v1"));
    let other = check(&["--api", "other.proto"]);
    assert_eq!(other.code, 1);
    let against = "checked against other.proto (5 RPCs of grpc.health.v1.Health, \
                   grpc.reflection.v1.ServerReflection, other.v1.Shop)";
    assert!(other.out.contains(against), "{}", other.out);
    assert!(
        other.out.contains(
            "p.json:9: error: /allow_rules/0/request/paths/0: \"/shop.v1.Shop/Get\" names no RPC of this API; did \
             you mean /other.v1.Shop/Get? [unknown-path]\n"
        ),
        "{}",
        other.out
    );
    let alone = check(&["--api", "none"]);
    assert_eq!(alone.code, 0);
    assert!(
        alone
            .out
            .contains("p.json:5: warning: /deny_rules/0/request/headers/0: "),
        "{}",
        alone.out
    );
    assert!(
        alone
            .out
            .ends_with("checked against no API: 0 errors, 1 warnings\n"),
        "{}",
        alone.out
    );
    assert_eq!(check(&["--api", "none", "--strict"]).code, 1);
    // For a service of a descriptor set.
    sandbox.write("api.binpb", descriptor_set());
    let own = check(&["--api", "api.binpb"]);
    assert_eq!(own.code, 0, "{}", own.out);
    assert!(
        own.out.contains("no rule mentions /shop.v1.Shop/Put"),
        "{}",
        own.out
    );
    assert!(
        own.out
            .contains("checked against api.binpb (2 RPCs of shop.v1.Shop)"),
        "{}",
        own.out
    );
    // By default for the contract of the package.
    std::fs::create_dir_all(sandbox.path("package/proto/shop/v1")).unwrap();
    sandbox.write("package/Cargo.toml", "");
    sandbox.write("package/proto/shop/v1/shop.proto", SHOP);
    let own = sandbox.run_in("package", &["policy", "check", "../p.json"]);
    assert_eq!(own.code, 0, "{}{}", own.out, own.err);
    let against = "checked against proto (5 RPCs of grpc.health.v1.Health";
    assert!(own.out.contains(against), "{}", own.out);
    // For a service of a `.proto` file, which has health and reflection too.
    sandbox.write("shop.proto", SHOP);
    let own = check(&["--api", "shop.proto"]);
    assert_eq!(own.code, 0, "{}", own.out);
    for said in [
        "no rule mentions /shop.v1.Shop/Put",
        "checked against shop.proto (5 RPCs of grpc.health.v1.Health",
    ] {
        assert!(own.out.contains(said), "{}", own.out);
    }
    let json: Value =
        serde_json::from_str(&check(&["--api", "api.binpb", "--strict", "--output", "json"]).out)
            .unwrap();
    assert_eq!(
        (&json["policy"], &json["rpcs"], &json["ok"]),
        (&json!("shop"), &json!(2), &json!(false))
    );
    assert_eq!(
        (&json["api"], &json["services"]),
        (&json!("api.binpb"), &json!(["shop.v1.Shop"]))
    );
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["findings"].as_array().unwrap().len(), 2);
    // A logger that another program registers.
    sandbox.write(
        "p.json",
        POLICY.replacen('{', r#"{"audit_logging_options":{"audit_condition":"ON_DENY","audit_loggers":[{"name":"siem","config":{"a":1}}]},"#, 1),
    );
    sandbox.refuse(
        &["policy", "check", "p.json"],
        "no audit logger is registered as \"siem\"",
    );
    sandbox.succeed(&[
        "policy", "check", "p.json", "--api", "none", "--logger", "siem",
    ]);
}

#[test]
fn whatever_is_no_policy_or_no_api_is_refused_in_one_line() {
    let sandbox = sandbox();
    let check = |file| ["policy", "check", file];
    sandbox.write("bad.proto", "syntax = \"proto3\";\nservice {}\n");
    sandbox.write("marked.proto", format!("\u{feff}{SHOP}"));
    sandbox.write("quoted.proto", format!("\"{SHOP}\""));
    let utf16: Vec<u8> = SHOP.encode_utf16().flat_map(u16::to_be_bytes).collect();
    sandbox.write("utf16.proto", utf16);
    sandbox.write(
        "base64.proto",
        "c3ludGF4ID0gInByb3RvMyI7CnBhY2thZ2Ugc2hvcC52MTsK\n",
    );
    sandbox.write("page.proto", "<!DOCTYPE html>\n<title>404</title>\n");
    // A directory, with a good contract beside the bad one.
    for file in ["marked", "quoted", "utf16", "base64", "page", "bad"] {
        let package = sandbox.path(&format!("{file}/shop/v1"));
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("a.proto"), SHOP.replace("shop.v1", "a")).unwrap();
        std::fs::copy(
            sandbox.path(&format!("{file}.proto")),
            package.join("b.proto"),
        )
        .unwrap();
    }
    sandbox.write("latin.proto", b"syntax = \"proto3\";\n\n// M\xfcller\n");
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox.write("huge", vec![b' '; (16 << 20) + 1]);
    sandbox.write("deep", "[".repeat(1 << 20));
    sandbox.write("binary", [0xff, 0xfe, 0x00]);
    for (file, why) in [
        ("huge", "larger than 16777216 bytes"),
        ("deep", "recursion limit"),
        ("binary", "is not valid: line 1: not JSON"),
        ("binary", "it is UTF-16: save it as UTF-8"),
        ("missing", "cannot read missing"),
        (".", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (
            "a\u{1b}[31m\u{202e}\nb",
            "cannot read a\\u{1b}[31m\\u{202e}\\nb",
        ),
    ] {
        sandbox.refuse(&check(file), why);
    }
    for (api, why) in [
        (
            "binary",
            "binary does not describe an API: not a descriptor set",
        ),
        ("p.json", "p.json does not describe an API"),
        ("missing", "cannot read missing"),
        ("/dev/zero", "not a regular file"),
        ("missing.proto", "cannot read missing.proto"),
        ("bad.proto", "bad.proto:2:"),
        (
            "marked.proto",
            "marked.proto: it begins with a byte order mark",
        ),
        ("quoted.proto", "quoted.proto: there are quotes around it"),
        ("utf16.proto", "utf16.proto: it is UTF-16"),
        ("base64.proto", "base64.proto: it is in base64"),
        ("page.proto", "page.proto: it is a page of HTML"),
        ("latin.proto", "latin.proto:3: it is not UTF-8"),
        ("marked", "marked/shop/v1/b.proto: it begins with a byte"),
        ("quoted", "quoted/shop/v1/b.proto: there are quotes around"),
        ("utf16", "utf16/shop/v1/b.proto: it is UTF-16"),
        ("base64", "base64/shop/v1/b.proto: it is in base64"),
        ("page", "page/shop/v1/b.proto: it is a page of HTML"),
        ("bad", "bad/shop/v1/b.proto:2:"),
        ("empty", "empty: there is no .proto file in it"),
    ] {
        sandbox.refuse(&["policy", "check", "p.json", "--api", api], why);
    }
    for (arguments, why) in [
        (
            &["policy", "explain", "--policy", "p.json", "--method", GET][..],
            "--cert <FILE>",
        ),
        (
            &[
                "policy", "explain", "--policy", "p.json", "--method", GET, "--peer", "{",
            ],
            "--peer: EOF",
        ),
        (
            &[
                "policy",
                "explain",
                "--policy",
                "p.json",
                "--method",
                GET,
                "--peer",
                "{}",
                "--metadata",
                "k",
            ],
            "it is not KEY=VALUE",
        ),
        (
            &[
                "policy",
                "explain",
                "--policy",
                "p.json",
                "--method",
                GET,
                "--peer",
                "{}",
                "--metadata",
                ":k=v",
            ],
            "is no key",
        ),
        (
            &["policy", "matrix", "--policy", "p.json", "--certs", "."],
            "there is no NAME/tls.crt in .",
        ),
    ] {
        sandbox.refuse(arguments, why);
    }
}

#[test]
fn a_policy_of_a_mebibyte_is_checked_and_decided() {
    let sandbox = Sandbox::empty();
    let rules: Vec<Value> = (0..8_000)
        .map(|at| json!({"name": format!("r{at}"), "source": {"principals": [format!("spiffe://a.test/{at}/*")]},
                         "request": {"paths": [format!("/shop.v1.Shop{at}/*")]}}))
        .collect();
    let policy =
        json!({"name": "p", "deny_rules": rules[..4000], "allow_rules": rules}).to_string();
    assert!(policy.len() > 1 << 20);
    sandbox.write("p.json", policy);
    sandbox.write("shop.proto", SHOP);
    let checked = sandbox.run(&["policy", "check", "p.json", "--api", "shop.proto"]);
    assert_eq!(checked.code, 1);
    let peer = json!({"uri_sans": ["spiffe://a.test/7999/x"]});
    let cases =
        json!({"cases": [case("last", &peer, "/shop.v1.Shop7999/Get", &json!({}), "allow")]});
    sandbox.write("c.json", cases.to_string());
    sandbox.succeed(&["policy", "test", "--policy", "p.json", "c.json"]);
}
