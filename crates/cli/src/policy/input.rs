//! What the commands read: policies, APIs, cases, peers and metadata. All of a file, or a refusal with the place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use authz::{Api, AuditEvent, AuditLogger, Loggers, Policy};
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::case::{Case, Cases};
use super::peer::{self, NamedPeer, PeersFile};

/// 64 MiB: more than any list of cases or descriptor set.
const MAX_FILE: u64 = 64 << 20;

/// The built-in audit loggers, and those that a service is said to register.
pub(super) fn loggers(names: &[String]) -> Loggers {
    let mut loggers = Loggers::built_in();
    for name in names {
        loggers.register(name, |_config| Ok(Arc::new(Elsewhere)));
    }
    loggers
}

/// A logger that only another program has. No RPC runs here, so that it never has to write.
#[derive(Debug)]
struct Elsewhere;

impl AuditLogger for Elsewhere {
    fn log(&self, _event: &AuditEvent) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn policy(path: &Path, loggers: &Loggers) -> Result<Policy> {
    Policy::parse_with(&read(path, Policy::MAX_BYTES)?, loggers)
        .with_context(|| format!("the policy {} is not valid", path.display()))
}

/// Where a service has its policy: at its root, as one that `new` made, or as the one of this repository.
pub(super) fn policy_here() -> PathBuf {
    let own = PathBuf::from("policy.json");
    match own.is_file() {
        true => own,
        false => "crates/server/policy.json".into(),
    }
}

/// The contract of the repository that the tool was built in, as a descriptor set; empty where there was none.
const BUILTIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/builtin.bin"));

/// What a policy is checked against.
#[derive(Clone, Debug)]
pub(crate) enum ApiChoice {
    /// The services of the repository that the tool was built in.
    Builtin,
    /// Nothing but itself.
    None,
    /// The services of a `.proto` file, a directory of them, or a descriptor set.
    File(PathBuf),
}

/// Where a package of its own, such as one that `new` made, has its contract.
pub(crate) const CONTRACTS: &str = "proto";

impl ApiChoice {
    /// The default: the contract of the package that this directory is in; or the services that the tool was built with.
    pub(super) fn or_default(choice: Option<&Self>) -> Self {
        match choice {
            Some(choice) => choice.clone(),
            None => match contract_here() {
                Some(directory) => Self::File(directory),
                None if BUILTIN.is_empty() => Self::None,
                None => Self::Builtin,
            },
        }
    }
}

/// The `proto` beside the nearest `Cargo.toml`, unless that is the repository whose contract is built in.
fn contract_here() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let package = here
        .ancestors()
        .find(|dir| dir.join("Cargo.toml").is_file())?;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let is_built_in = !BUILTIN.is_empty()
        && matches!((package.canonicalize(), own.canonicalize()), (Ok(package), Ok(own)) if package == own);
    let contract = package.join(CONTRACTS);
    if is_built_in || !contract.is_dir() {
        return None;
    }
    // As a reader in that directory would write it.
    Some(match here == package {
        true => CONTRACTS.into(),
        false => contract,
    })
}

impl fmt::Display for ApiChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::None => f.write_str("none"),
            Self::File(file) => file.display().fmt(f),
        }
    }
}

impl From<&str> for ApiChoice {
    fn from(text: &str) -> Self {
        match text {
            "builtin" => Self::Builtin,
            "none" => Self::None,
            file => Self::File(file.into()),
        }
    }
}

/// `None` when there is to be none.
pub(crate) fn api(choice: &ApiChoice) -> Result<Option<Api>> {
    let api = match choice {
        ApiChoice::None => return Ok(None),
        ApiChoice::Builtin => {
            ensure!(
                !BUILTIN.is_empty(),
                "this tool was built without an API of its own; give one by --api FILE.proto"
            );
            countersign::server::api(BUILTIN)
        }
        // A server of this project has health and reflection too.
        ApiChoice::File(path) if path.is_dir() || path.extension() == Some("proto".as_ref()) => {
            countersign::server::api(&compiled(path)?)
        }
        ApiChoice::File(path) => Api::from_descriptor_set(&read(path, MAX_FILE)?),
    };
    let api = api.with_context(|| format!("{choice} does not describe an API"))?;
    Ok(Some(api))
}

/// The descriptors of a `.proto` file, or of all in a directory.
fn compiled(path: &Path) -> Result<Vec<u8>> {
    let is_dir = path.is_dir();
    let files = match is_dir {
        true => countersign_build::contracts(path)?,
        false => vec![path.to_owned()],
    };
    // The compiler reads them again: this refuses what is too large or no regular file.
    let texts = files.iter().map(|file| Ok((file, read(file, MAX_FILE)?)));
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let set = match is_dir {
        true => countersign_build::descriptors(path),
        false => countersign_build::descriptors_of(path),
    };
    set.map_err(|source| {
        let form = |text| base::json::marked(text).or_else(|| base::json::wrapped(text));
        let found = texts
            .iter()
            .find_map(|(file, text)| Some((file, form(text)?)));
        match found {
            Some((file, form)) => anyhow!("{}: {form}", file.display()),
            None => source.into(),
        }
    })
}

pub(super) fn cases(path: &Path) -> Result<Vec<Case>> {
    let what = path.display().to_string();
    let Cases { cases } = json(&what, &read(path, MAX_FILE)?)?;
    unique(&what, "case", cases.iter().map(|case| case.name.as_str()))?;
    Ok(cases)
}

pub(super) fn peers(path: &Path) -> Result<Vec<NamedPeer>> {
    let what = path.display().to_string();
    let PeersFile { peers } = json(&what, &read(path, MAX_FILE)?)?;
    unique(&what, "peer", peers.iter().map(|peer| peer.name.as_str()))?;
    Ok(peers)
}

/// Reads one JSON value, without an unknown or repeated field and with nothing after it.
pub(super) fn json<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| match base::json::instead(text) {
        // The whole of the text would stand in the error.
        Some(instead) if error.is_data() => anyhow!("{what}: {instead}"),
        Some(instead) => anyhow!("{what}: {error}; {instead}"),
        None => anyhow!("{what}: {error}"),
    })
}

/// An empty list would prove nothing, and two entries of one name cannot be distinguished.
fn unique<'a>(what: &str, kind: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        ensure!(!name.is_empty(), "{what}: a {kind} has an empty name");
        let is_new = seen.insert(name);
        ensure!(is_new, "{what}: two {kind}s have the name {name:?}");
    }
    ensure!(!seen.is_empty(), "{what}: there is no {kind} in it");
    Ok(())
}

/// Reads a `KEY=VALUE` of the command line.
pub(super) fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The metadata of a call; a repeated key has several values.
pub(super) fn metadata(pairs: &[(String, String)]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        peer::append(&mut headers, name, value).map_err(|why| anyhow!("--metadata: {why}"))?;
    }
    Ok(headers)
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    base::file::read(path, max).with_context(|| format!("cannot read {}", path.display()))
}
