//! What is under deploy/ against the programs: a setting, a port or a path that the programs do not have fails here. And
//! the layouts on disk that the components of deploy/kubernetes give to the server.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Command, CommandFactory};
use countersign::program::Duration as Setting;
use countersign::server;
use mtls::{Source, Trust};

use harness::world::{reload, repository, run};

use crate::world::{pki, spec, start};

fn deployed(file: &str) -> String {
    let path = repository().join("deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn server() -> Command {
    server::Settings::augment_args(Command::new("server"))
}

/// The variables that a program reads.
fn variables(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|it| it.get_env());
    let mut all: BTreeSet<_> = own.map(|it| it.to_string_lossy().into_owned()).collect();
    all.extend(command.get_subcommands().flat_map(variables));
    all
}

fn default_of(command: &Command, setting: &str) -> String {
    let argument = command.get_arguments().find(|it| it.get_id() == setting);
    let argument = argument.unwrap_or_else(|| panic!("there is no setting {setting}"));
    argument.get_default_values()[0]
        .to_string_lossy()
        .into_owned()
}

/// Every `APP_…` in a text.
fn mentioned(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let words = text.split(word).filter(|it| it.starts_with("APP_"));
    words.map(str::to_owned).collect()
}

/// The value that follows `key` in a manifest.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let (_, rest) = text
        .split_once(key)
        .unwrap_or_else(|| panic!("{key} is not there"));
    rest.split(|c: char| c.is_whitespace() || c == ',' || c == '}')
        .find(|it| !it.is_empty())
        .unwrap()
}

fn seconds(text: &str) -> u64 {
    text.parse::<Setting>().unwrap().0.as_secs()
}

const STATEFUL_SET: &str = "kubernetes/base/statefulset.yaml";

#[test]
fn every_variable_that_is_set_under_deploy_is_a_setting() {
    let mut known = variables(&server());
    // One file for every program: none may know a variable there that another would warn of.
    let unknown: Vec<_> = mentioned(&deployed("Dockerfile"))
        .difference(&known)
        .cloned()
        .collect();
    assert!(unknown.is_empty(), "Dockerfile: {unknown:?}");
    // Of the inventory alone; see crates/server/src/main.rs.
    let main = fs::read_to_string(repository().join("crates/server/src/main.rs")).unwrap();
    assert!(main.contains("env = \"APP_DATA_FILE\""));
    assert!(main.contains("default_value = \"data/inventory.redb\""));
    known.insert("APP_DATA_FILE".to_owned());
    let of_server = known.clone();
    known.extend(variables(&client::settings::ClientArgs::command()));
    for file in ["compose.yaml", "compose.postgres.yaml"] {
        let unknown: Vec<_> = mentioned(&deployed(file))
            .difference(&known)
            .cloned()
            .collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let components = repository().join("deploy/kubernetes/components");
    let mut manifests = vec![repository().join("deploy").join(STATEFUL_SET)];
    for component in fs::read_dir(components).unwrap() {
        manifests.push(component.unwrap().path().join("kustomization.yaml"));
    }
    assert!(manifests.len() >= 5, "{manifests:?}");
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).unwrap();
        let unknown: Vec<_> = mentioned(&text).difference(&of_server).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", manifest.display());
    }
}

#[test]
fn ports_paths_and_the_user_are_those_of_the_programs() {
    let command = server();
    let port = |setting| {
        let address = default_of(&command, setting);
        address.rsplit_once(':').unwrap().1.to_owned()
    };
    let (grpc, admin) = (port("listen"), port("admin_listen"));
    let pod = deployed(STATEFUL_SET);
    assert_eq!(value(&pod, "name: grpc\n          containerPort:"), grpc);
    assert_eq!(value(&pod, "name: admin\n          containerPort:"), admin);
    assert_eq!(
        value(&deployed("kubernetes/base/service.yaml"), "port:"),
        grpc
    );
    let image = deployed("Dockerfile");
    assert!(image.contains(&format!("EXPOSE {grpc} {admin}\n")));
    assert!(image.contains(&format!("APP_ADMIN_ADDR=0.0.0.0:{admin}\n")));
    assert!(image.contains("\"/program\", \"probe\""));
    assert!(
        server::Settings::augment_args(Command::new("server"))
            .find_subcommand("probe")
            .is_some()
    );
    assert!(
        client::settings::ClientArgs::command()
            .find_subcommand("probe")
            .is_some()
    );
    let routes = fs::read_to_string(repository().join("crates/countersign/src/admin.rs")).unwrap();
    for part in pod
        .split("path: /")
        .skip(1)
        .filter(|it| it.contains("port: admin"))
    {
        let path = part.split(',').next().unwrap();
        if !part.starts_with("var") && !part.starts_with("etc") {
            assert!(routes.contains(&format!(".route(\"/{path}\"")), "{path}");
        }
    }
    for key in ["runAsUser:", "runAsGroup:", "fsGroup:"] {
        assert!(
            image.contains(&format!("USER {}:", value(&pod, key))),
            "{key}"
        );
    }
}

/// Every symbolic link under `directory`.
fn links(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            found.push(entry.path());
        } else if kind.is_dir() {
            links(&entry.path(), found);
        }
    }
}

#[test]
fn the_build_of_an_image_has_what_the_sources_link_to() {
    let root = repository().canonicalize().unwrap();
    let list = deployed("Dockerfile.dockerignore");
    let sent: Vec<_> = list.lines().filter_map(|it| it.strip_prefix('!')).collect();
    let mut found = Vec::new();
    for directory in ["crates", "proto", "tests"] {
        assert!(sent.contains(&directory));
        links(&root.join(directory), &mut found);
    }
    assert!(found.len() > 5, "{found:?}");
    for link in found {
        let target = link.canonicalize().unwrap();
        let target = target.strip_prefix(&root).unwrap();
        let is_sent = sent.iter().any(|it| target.starts_with(it));
        assert!(is_sent, "{} -> {}", link.display(), target.display());
    }
}

#[test]
fn a_drain_ends_before_the_pod_or_the_container_is_killed() {
    let pod = deployed(STATEFUL_SET);
    let drain = seconds(value(&pod, "APP_DRAIN_DELAY\n          value:"))
        + seconds(value(&pod, "APP_DRAIN_TIMEOUT\n          value:"));
    // What comes after the drain has ten seconds; then the process ends by force.
    let grace: u64 = value(&pod, "terminationGracePeriodSeconds:")
        .parse()
        .unwrap();
    assert!(drain + 10 < grace, "{drain} {grace}");
    let compose = deployed("compose.yaml");
    let drain = seconds(value(&compose, "APP_DRAIN_DELAY:"))
        + seconds(value(&compose, "APP_DRAIN_TIMEOUT:"));
    let grace = seconds(value(&compose, "stop_grace_period:"));
    assert!(drain + 10 < grace, "{drain} {grace}");
}

#[test]
fn the_policy_that_is_deployed_is_that_of_the_server() {
    let own = fs::read_to_string(repository().join("crates/server/policy.json")).unwrap();
    assert_eq!(deployed("kubernetes/base/policy.json"), own);
}

/// Writes files as the kubelet does: into a new directory, to which `..data` then points at once.
fn project(volume: &Path, version: &str, files: &[(&str, &Path)]) {
    let dir = volume.join(version);
    fs::create_dir_all(&dir).unwrap();
    for (name, from) in files {
        fs::copy(from, dir.join(name)).unwrap();
    }
    let new = volume.join("..data_tmp");
    symlink(version, &new).unwrap();
    fs::rename(&new, volume.join("..data")).unwrap();
    for (name, _) in files {
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), &link).unwrap();
        }
    }
}

fn open(source: Source) -> Result<Trust, mtls::InvalidCredentials> {
    Trust::open(identity::Role::Server, source, reload())
}

async fn generation(trust: &Trust, wanted: u64) {
    while trust.current().generation() < wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_projected_secret_is_read_and_its_swap_is_seen() {
    let pki = pki();
    let from = |name: &str| pki.dir("inventory").join(name);
    let volume = tempfile::tempdir().unwrap();
    let (chain, key, roots) = (from("tls.crt"), from("tls.key"), from("ca.crt"));
    let files = [
        ("tls.crt", &*chain),
        ("tls.key", &*key),
        ("ca.crt", &*roots),
    ];
    project(volume.path(), "..1", &files);
    let trust = open(Source::directory(volume.path())).unwrap();
    let before = trust.current().generation();
    pki.issue("inventory", &spec("inventory"));
    project(volume.path(), "..2", &files);
    generation(&trust, before + 1).await;
    assert!(trust.current().own().is_ok());
}

#[tokio::test]
async fn one_file_with_key_and_chain_beside_the_roots_is_read() {
    let pki = pki();
    let from = |name: &str| pki.dir("inventory").join(name);
    let volume = tempfile::tempdir().unwrap();
    let both = fs::read_to_string(from("tls.key")).unwrap()
        + &fs::read_to_string(from("tls.crt")).unwrap();
    let made = volume.path().join("made.pem");
    fs::write(&made, both).unwrap();
    let roots = from("ca.crt");
    project(
        volume.path(),
        "..1",
        &[("bundle.pem", &*made), ("ca.crt", &*roots)],
    );
    let source = Source::directory(volume.path()).with_bundle(volume.path().join("bundle.pem"));
    assert!(open(source).unwrap().current().own().is_ok());
}

#[tokio::test]
async fn roots_in_a_volume_of_their_own_are_read_and_a_secret_without_them_is_refused() {
    let pki = pki();
    let from = |name: &str| pki.dir("inventory").join(name);
    let (pair, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (chain, key, roots) = (from("tls.crt"), from("tls.key"), from("ca.crt"));
    project(
        pair.path(),
        "..1",
        &[("tls.crt", &*chain), ("tls.key", &*key)],
    );
    project(others.path(), "..1", &[("ca.crt", &*roots)]);
    let source = Source::directory(pair.path());
    let refused = open(source.clone()).unwrap_err().to_string();
    assert!(refused.contains("ca.crt"), "{refused}");
    let source = source.with_roots(others.path().join("ca.crt"));
    assert!(open(source.clone()).unwrap().current().own().is_ok());
    // A list that is named must be there.
    let refused = open(source.with_crls(others.path().join("crl.pem")))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("crl.pem"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_whether_the_program_with_that_admin_port_is_ready() {
    let pki = pki();
    let server = start(&pki, &["--drain-delay", "1h"]);
    let any = format!("0.0.0.0:{}", server.admin.port());
    for program in ["server", "client"] {
        let probe = |address: &str| {
            let ended = run(program, ["probe", "--admin-listen", address]);
            let said = [ended.stdout, ended.stderr].concat();
            (ended.status.code(), String::from_utf8(said).unwrap())
        };
        assert_eq!(probe(&any), (Some(0), "ready\n".to_owned()), "{program}");
        let (code, said) = probe("off");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("APP_ADMIN_ADDR"), "{said}");
        // The port of the service answers, and not to this.
        let (code, said) = probe(&server.address.to_string());
        assert_eq!(code, Some(1), "{said}");
    }
    server.signal("TERM");
    server.log.wait(|line| line["reason"] == "draining");
    let ended = run("server", ["probe", "--admin-listen", &any]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        said.contains("503") && said.contains("not ready: draining"),
        "{said}"
    );
}
