//! `demo.toml`, or `[package.metadata.demo]` of a `Cargo.toml`: the programs, identities and calls of a service's demo. An
//! unknown field rejects the file.
//!
//! Which caller may call what is in the policy alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::pki::{Roster, TrustDomain};
use crate::policy::input::{self, ApiChoice, CONTRACTS};
use crate::text::parse_toml;

/// Where a demo is described, when no file is named.
const FILE: &str = "demo.toml";
/// Or in here, as `[package.metadata.demo]`.
const MANIFEST: &str = "Cargo.toml";

/// What a demo shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// The full name of the service, as in paths.
    pub(super) service: String,
    policy: PathBuf,
    identities: PathBuf,
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// Servers that the server calls. They start before it, in this order.
    #[serde(default)]
    pub(super) backend: Vec<BackendSpec>,
    pub(super) server: ServerSpec,
    pub(super) client: ClientSpec,
    pub(super) prepare: Option<CallAs>,
    pub(super) call: Vec<CallSpec>,
    /// It goes on for some seconds, and ends with a line `{"calls": N, "ok": N}`.
    pub(super) rotation: CallAs,
    pub(super) revocation: Option<RevocationSpec>,
    /// The directory of the file.
    #[serde(skip)]
    pub(super) base: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerSpec {
    pub(super) program: String,
    pub(super) identity: String,
    #[serde(default)]
    pub(super) arguments: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendSpec {
    pub(super) program: String,
    /// `{IDENTITY}` stands for its URL in the arguments of the servers that start after it.
    pub(super) identity: String,
    pub(super) policy: PathBuf,
    #[serde(default)]
    pub(super) arguments: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientSpec {
    pub(super) program: String,
    #[serde(default)]
    pub(super) arguments: Vec<String>,
}

/// The arguments of a client, and who it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallAs {
    pub(super) identity: String,
    pub(super) arguments: Vec<String>,
}

/// One RPC, and the client's arguments for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallSpec {
    pub(super) method: String,
    pub(super) arguments: Vec<String>,
}

/// A stream whose caller is revoked, and another's that goes on. Each message is a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationSpec {
    pub(super) identity: String,
    pub(super) witness: String,
    pub(super) stream: Vec<String>,
    /// What gives the stream of the witness a next message, if it has none by itself.
    pub(super) change: Option<CallAs>,
}

/// No description of a demo is larger (1 MiB).
const MAX_FILE: u64 = 1 << 20;

impl Spec {
    /// Reads `file`; without one, what this directory or the next above has: a `demo.toml`, or a `Cargo.toml` with a
    /// `[package.metadata.demo]`.
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        let here = std::env::current_dir()?;
        let candidates = here
            .ancestors()
            .flat_map(|dir| [FILE, MANIFEST].map(|name| dir.join(name)));
        let file = match file {
            Some(file) => file.to_owned(),
            None => { candidates }
                .find(|file| file.is_file() && (file.ends_with(FILE) || describes_a_demo(file)))
                .context(
                    "demo.toml: there is none in this directory or above, and no Cargo.toml with [package.metadata.demo]; name \
                     one with --file",
                )?,
        };
        let name = file.display().to_string();
        let text = base::file::text(&file, MAX_FILE).with_context(|| name.clone())?;
        let mut spec: Self = if file.ends_with(MANIFEST) {
            let Manifest { package } = parse_toml(&name, &text)?;
            package.metadata.demo
        } else {
            parse_toml(&name, &text)?
        };
        let base = std::path::absolute(&file)?;
        spec.base = base.parent().unwrap_or(Path::new(".")).to_owned();
        spec.check_calls()
            .and_then(|()| spec.check_identities())
            .context(name)?;
        Ok(spec)
    }

    /// Checks that each identity that a field names is one of the file of identities.
    fn check_identities(&self) -> Result<()> {
        let roster = Roster::read(&self.identities(), &TrustDomain::default())?;
        let check = |field: &str, name: &str| {
            let known: Vec<_> = roster.entries().map(|(name, _)| name.as_str()).collect();
            ensure!(
                known.contains(&name),
                "{field} is {name:?}, and {} has no such identity, but {}",
                self.identities.display(),
                known.join(", ")
            );
            Ok(())
        };
        for backend in &self.backend {
            check("backend.identity", &backend.identity)?;
        }
        check("server.identity", &self.server.identity)?;
        check("rotation.identity", &self.rotation.identity)?;
        if let Some(prepare) = &self.prepare {
            check("prepare.identity", &prepare.identity)?;
        }
        let Some(revocation) = &self.revocation else {
            return Ok(());
        };
        check("revocation.identity", &revocation.identity)?;
        check("revocation.witness", &revocation.witness)?;
        if let Some(change) = &revocation.change {
            check("revocation.change.identity", &change.identity)?;
        }
        ensure!(
            revocation.identity != revocation.witness,
            "the witness of the revocation is {}, who is revoked; name another identity that may read the stream, or leave \
             the revocation out",
            revocation.witness
        );
        Ok(())
    }

    /// Checks that each method of the service has a call, and each call a method, if the contract is beside the file.
    fn check_calls(&self) -> Result<()> {
        ensure!(!self.call.is_empty(), "there is no [[call]] in it");
        let contracts = self.base.join(CONTRACTS);
        if !contracts.is_dir() {
            return Ok(());
        }
        let Some(api) = input::api(&ApiChoice::File(contracts))? else {
            return Ok(());
        };
        let service = format!("/{}/", self.service);
        let called = self.call.iter().map(|call| &call.method);
        let called: BTreeSet<_> = called.map(|name| format!("{service}{name}")).collect();
        if let Some(unknown) = called.iter().find(|path| api.method(path).is_none()) {
            let hint = api
                .nearest(unknown)
                .map(|path| format!("; did you mean {path}?"));
            bail!(
                "the contract has no method {unknown}, which a [[call]] names{}",
                hint.unwrap_or_default()
            );
        }
        let served = api.paths().filter(|path| path.starts_with(&service));
        let missing: Vec<_> = served.filter(|path| !called.contains(*path)).collect();
        ensure!(
            missing.is_empty(),
            "no [[call]] names {}: add one for each method, so that the demo shows who may call it",
            missing.join(", ")
        );
        Ok(())
    }

    pub(super) fn policy(&self) -> PathBuf {
        self.base.join(&self.policy)
    }

    pub(super) fn identities(&self) -> PathBuf {
        self.base.join(&self.identities)
    }
}

/// A `Cargo.toml`, of which the rest is cargo's.
#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    metadata: ManifestMetadata,
}

#[derive(Deserialize)]
struct ManifestMetadata {
    demo: Spec,
}

fn describes_a_demo(manifest: &Path) -> bool {
    std::fs::read_to_string(manifest).is_ok_and(|text| text.contains("[package.metadata.demo]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_wrong_is_named_with_its_fault() {
        let Ok(dir) = tempfile::tempdir() else {
            panic!("no directory")
        };
        let file = dir.path().join("demo.toml");
        for (text, wanted) in [
            (None, "No such file"),
            (Some("service = 'a'\nservice = 1"), "demo.toml:2: "),
            (
                Some("service = 'a.v1.A'\nservices = 'b'"),
                "unknown field `services`",
            ),
            (Some("service = 'a.v1.A'"), "missing field `policy`"),
        ] {
            if let Some(text) = text {
                assert!(std::fs::write(&file, text).is_ok());
            }
            let error = Spec::read(Some(&file))
                .err()
                .map(|error| format!("{error:#}"));
            let error = error.unwrap_or_default();
            assert!(error.contains("demo.toml:"), "{error}");
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn each_method_needs_a_call_and_each_call_a_method_and_an_identity() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("proto"))?;
        let contract = r#"syntax = "proto3"; package a.v1; message M {}
            service A { rpc Get(M) returns (M); rpc List(M) returns (M); }"#;
        std::fs::write(dir.path().join("proto/a.proto"), contract)?;
        std::fs::write(
            dir.path().join("i"),
            "[c]\nusage = 'both'\ndns = ['c.test']\n",
        )?;
        let file = dir.path().join("demo.toml");
        let read = |server: &str, methods: &[&str]| -> Result<Spec> {
            let call = |name: &&str| format!("{{ method = '{name}', arguments = [] }}");
            let calls: Vec<_> = methods.iter().map(call).collect();
            let text = format!(
                "service = 'a.v1.A'\npolicy = 'p'\nidentities = 'i'\ncall = [{}]\n\
                 server = {{ program = 's', identity = '{server}' }}\nclient = {{ program = 'c' }}\n\
                 rotation = {{ identity = 'c', arguments = [] }}",
                calls.join(",")
            );
            std::fs::write(&file, text)?;
            Spec::read(Some(&file))
        };
        let error = |methods: &[&str]| read("c", methods).err().map(|error| format!("{error:#}"));
        assert_eq!(error(&["Get", "List"]), None);
        let missing = error(&["Get"]).unwrap_or_default();
        assert!(
            missing.contains("demo.toml: no [[call]] names /a.v1.A/List: "),
            "{missing}"
        );
        let unknown = error(&["Get", "Lst"]).unwrap_or_default();
        let said = "the contract has no method /a.v1.A/Lst, which a [[call]] names; did you mean /a.v1.A/List?";
        assert!(unknown.contains(said), "{unknown}");
        let nobody = read("d", &["Get", "List"]).err();
        let nobody = nobody.map(|error| format!("{error:#}")).unwrap_or_default();
        let said = "demo.toml: server.identity is \"d\", and i has no such identity, but c";
        assert!(nobody.ends_with(said), "{nobody}");
        Ok(())
    }
}
