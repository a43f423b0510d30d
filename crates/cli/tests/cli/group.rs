//! `countersign pki … --group`: who may read the keys then.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::tool::{Sandbox, eventually};

/// A user other than root, and a group that root gives to and that user does not.
const NOBODY: u32 = 65532;
const FOREIGN: u32 = 65533;

fn we_are_root() -> bool {
    tempfile::tempfile().unwrap().metadata().unwrap().uid() == 0
}

/// A group that this user may give files to: any for root, and one of theirs for others.
fn permitted(sandbox: &Sandbox) -> u32 {
    let own = sandbox.path(".").metadata().unwrap();
    if we_are_root() {
        return FOREIGN;
    }
    let groups = Command::new("id").arg("-G").output().unwrap();
    let groups = String::from_utf8(groups.stdout).unwrap();
    let mut groups = groups.split_whitespace().map(|id| id.parse().unwrap());
    groups.find(|id| *id != own.gid()).unwrap_or(own.gid())
}

fn readers(sandbox: &Sandbox, path: &str) -> (u32, u32, u32) {
    let it = sandbox.path(path).metadata().unwrap();
    (it.uid(), it.gid(), it.mode() & 0o7777)
}

fn set_mode(sandbox: &Sandbox, path: &str, mode: u32) {
    fs::set_permissions(sandbox.path(path), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_group_that_is_named_reads_the_keys_of_identities_and_never_that_of_the_authority() {
    let sandbox = Sandbox::with_identities();
    let gid = permitted(&sandbox);
    let group = gid.to_string();
    let own = sandbox.path(".").metadata().unwrap().uid();
    let shared = |name: &str| {
        for (file, mode) in [
            ("", 0o750),
            ("tls.key", 0o640),
            ("tls.crt", 0o644),
            ("ca.crt", 0o644),
        ] {
            let path = format!("certs/{name}/{file}");
            assert_eq!(readers(&sandbox, &path), (own, gid, mode), "{path}");
        }
    };
    sandbox.succeed(&["pki", "init", "--group", &group]);
    shared("orders");
    assert_eq!(readers(&sandbox, "certs/ca").2, 0o700);
    assert_eq!(readers(&sandbox, "certs/ca/issuing.key").2, 0o600);

    sandbox.succeed(&[
        "pki",
        "issue",
        "late",
        "--dns",
        "late.test",
        "--group",
        &group,
    ]);
    shared("late");

    // Without it, they stay.
    sandbox.succeed(&["pki", "renew"]);
    shared("orders");
    shared("late");
}

#[test]
fn what_is_kept_is_shared_too() {
    let sandbox = Sandbox::with_pki();
    let gid = permitted(&sandbox);
    let group = gid.to_string();
    let issue = ["pki", "issue", "late", "--dns", "late.test"];
    sandbox.succeed(&issue);
    let init = ["pki", "init"];
    for (command, name) in [(&init[..], "orders"), (&issue, "late")] {
        let serial = sandbox.serial(name);
        let key = format!("certs/{name}/tls.key");
        assert_eq!(readers(&sandbox, &key).2, 0o600);
        sandbox.succeed(&[command, &["--group", &group]].concat());
        assert_eq!(sandbox.serial(name), serial);
        let (_, reader, mode) = readers(&sandbox, &key);
        assert_eq!((reader, mode), (gid, 0o640));
        assert_eq!(readers(&sandbox, &format!("certs/{name}")).2, 0o750);
    }
    // What others could read is no secret, whoever may read it from now on.
    let serial = sandbox.serial("orders");
    set_mode(&sandbox, "certs/orders/tls.key", 0o644);
    sandbox.succeed(&["pki", "init", "--group", &group]);
    assert_ne!(sandbox.serial("orders"), serial);
    assert_eq!(readers(&sandbox, "certs/orders/tls.key").2, 0o640);
}

#[test]
fn what_a_link_in_the_directory_of_an_identity_leads_to_is_left_alone() {
    let sandbox = Sandbox::with_identities();
    let group = permitted(&sandbox).to_string();
    sandbox.succeed(&["pki", "init"]);
    fs::write(sandbox.path("secret"), "not of the PKI").unwrap();
    set_mode(&sandbox, "secret", 0o600);
    let before = readers(&sandbox, "secret");
    let place = sandbox.path("certs/orders/crl.pem");
    std::os::unix::fs::symlink(sandbox.path("secret"), &place).unwrap();
    let refused = sandbox.run(&["pki", "renew", "orders", "--group", &group]);
    assert_ne!(refused.code, 0, "{}", refused.err);
    assert_eq!(readers(&sandbox, "secret"), before);
    fs::remove_file(&place).unwrap();
    fs::hard_link(sandbox.path("secret"), place).unwrap();
    sandbox.run(&["pki", "renew", "orders", "--group", &group]);
    assert_eq!(readers(&sandbox, "secret"), before);
}

#[test]
fn a_renewal_shares_what_it_renews_and_a_watch_what_is_not_yet_due() {
    let sandbox = Sandbox::with_pki();
    let gid = permitted(&sandbox);
    let group = gid.to_string();
    let shared = |name: &str| {
        let (_, reader, mode) = readers(&sandbox, &format!("certs/{name}/tls.key"));
        (reader, mode) == (gid, 0o640) && readers(&sandbox, &format!("certs/{name}")).2 == 0o750
    };
    sandbox.succeed(&["pki", "renew", "orders", "--group", &group]);
    assert!(shared("orders") && !shared("catalog"));

    let serial = sandbox.serial("catalog");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["pki", "renew", "--watch", "--group", &group])
        .current_dir(sandbox.path("."))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("catalog is shared", || shared("catalog"));
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(sandbox.serial("catalog"), serial);
}

/// Runs the tool as somebody who is no member of `FOREIGN`, nor root, with `owned` as their own.
fn as_nobody(sandbox: &Sandbox, owned: &[&str], arguments: &[&str]) -> (i32, String) {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_countersign"));
    if we_are_root() {
        // It may not reach the program where that is.
        let copy = sandbox.path("tool");
        fs::copy(env!("CARGO_BIN_EXE_countersign"), &copy).unwrap();
        for path in owned {
            chown(sandbox.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        tool = Command::new(copy);
        tool.uid(NOBODY).gid(NOBODY);
    }
    let output = tool
        .args(arguments)
        .current_dir(sandbox.path("."))
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn a_group_that_may_not_be_given_is_refused_in_one_line_before_anything_is_written() {
    let sandbox = Sandbox::with_identities();
    let group = FOREIGN.to_string();
    let init = ["pki", "init", "--group", &group];
    let before = sandbox.snapshot();
    let (code, said) = as_nobody(&sandbox, &[".", "certs"], &init);
    let why = "; run this as root, or as its owner and a member of that group: ";
    assert_eq!((code, said.lines().count()), (64, 1), "{said}");
    assert!(
        said.contains("cannot make 65533 the group of a file in certs"),
        "{said}"
    );
    assert!(said.contains(why), "{said}");
    fs::remove_file(sandbox.path("tool")).ok();
    assert_eq!(sandbox.snapshot(), before);

    let (code, said) = as_nobody(&sandbox, &[], &["pki", "init"]);
    assert_eq!((code, &*said), (0, ""));
    fs::remove_file(sandbox.path("tool")).ok();
    let before = sandbox.snapshot();
    for command in [
        &["pki", "renew", "orders"][..],
        &["pki", "issue", "late", "--dns", "late.test"],
        &["pki", "init"],
    ] {
        let (code, said) = as_nobody(&sandbox, &[], &[command, &["--group", &group]].concat());
        assert_eq!((code, said.lines().count()), (64, 1), "{said}");
        assert!(said.contains(why), "{said}");
        fs::remove_file(sandbox.path("tool")).ok();
        assert_eq!(sandbox.snapshot(), before, "{command:?}");
        assert!(!sandbox.path("certs/late").exists());
        assert_eq!(readers(&sandbox, "certs/orders").2, 0o700);
    }
    for no_number in ["staff", "-1", "4294967295", ""] {
        let group = format!("--group={no_number}");
        sandbox.refuse(&["pki", "renew", &group], "a group is given by its number");
    }
}

#[test]
fn a_renewal_that_may_not_keep_the_owner_says_who_may() {
    let sandbox = Sandbox::with_pki();
    if !we_are_root() {
        return;
    }
    // Everything is theirs but one key.
    let all: Vec<String> = sandbox
        .snapshot()
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(sandbox.path(".")).ok())
        .flat_map(|path| path.ancestors().map(|it| it.display().to_string()))
        .filter(|path| !path.is_empty() && path != "certs/orders/tls.key")
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let before = sandbox.snapshot();
    set_mode(&sandbox, "certs/orders/tls.key", 0o640);
    chown(sandbox.path("certs/orders/tls.key"), None, Some(NOBODY)).unwrap();
    let (code, said) = as_nobody(&sandbox, &all, &["pki", "renew", "orders"]);
    assert_eq!((code, said.lines().count()), (64, 1), "{said}");
    let why =
        "cannot keep the owner 0 and the group 65532 of certs/orders/tls.key; run this as root";
    assert!(said.contains(why), "{said}");
    fs::remove_file(sandbox.path("tool")).unwrap();
    assert_eq!(sandbox.snapshot(), before);
}
