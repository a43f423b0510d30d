//! `new`: a service of one's own, stamped from `crates/template`, which is built and tested like everything else.
//!
//! Stamping replaces names, and says where the library is. When one file cannot be written, none stays.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::pki::IdentityName;

/// Each file of the template. In the package they are links, under names that mean nothing to cargo and git.
const FILES: [(&str, &str); 10] = [
    (MANIFEST, include_str!("../template/manifest.toml")),
    (".gitignore", include_str!("../template/gitignore")),
    ("README.md", include_str!("../template/README.md")),
    ("build.rs", include_str!("../template/build.rs")),
    (CONTRACT, include_str!("../template/api.proto")),
    ("policy.json", include_str!("../template/policy.json")),
    ("certs/dev.toml", include_str!("../template/dev.toml")),
    (
        "examples/countersign.rs",
        include_str!("../template/countersign.rs"),
    ),
    ("src/main.rs", include_str!("../template/main.rs")),
    ("src/client.rs", include_str!("../template/client.rs")),
];

const MANIFEST: &str = "Cargo.toml";
const CONTRACT: &str = "the contract";

/// How the manifest of the template names the crates of the library.
const SIBLING: &str = "path = \"../";

/// What makes a package a workspace of its own, which a member of ours cannot say.
const WORKSPACE: &str = "
[workspace]

# A first build is faster without debug information.
[profile.dev]
debug = \"line-tables-only\"

[profile.dev.package.\"*\"]
debug = false
";

/// What names in the template would mean twice: its callers, and what cargo keeps for itself.
const RESERVED: &str = "alloc auditor build ca con core deps examples frontend guest incremental nul proc-macro \
                        proc_macro service std test";

/// Strict and reserved keywords of all editions.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Create your own service: a workspace that builds, with tests and a demo
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The name of the package, such as payments
    name: String,
    /// The full name of the gRPC service [default: NAME.v1.NameService]
    #[arg(long, value_name = "package.vN.NameService")]
    service: Option<String>,
    /// The directory to make [default: NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// Makes the service, or nothing.
pub(crate) fn run(new: &New, out: &mut impl Write) -> Result<ExitCode> {
    check_name(&new.name)?;
    let service = match &new.service {
        Some(service) => ServiceName::parse(service)?,
        None => ServiceName::of_package(&new.name)?,
    };
    let names = Stamp {
        name: &new.name,
        service,
    };
    let directory = new.path.clone().unwrap_or_else(|| PathBuf::from(&new.name));
    write(&names, &directory, library().as_deref())?;
    let files = FILES.len();
    let (package, service) = (&names.service.package, &names.service.name);
    let directory = directory.display();
    writeln!(
        out,
        "made {package}.{service} in {directory}: {files} files. Next:\n"
    )?;
    writeln!(out, "  cd {directory}")?;
    writeln!(out, "  cargo test")?;
    writeln!(out, "  cargo run --example countersign -- demo\n")?;
    writeln!(out, "Its README.md says what to change.")?;
    Ok(countersign::program::exit::OK)
}

/// The names that stand in for those of the template.
struct Stamp<'a> {
    name: &'a str,
    service: ServiceName,
}

/// `payments.v1.PaymentService`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct ServiceName {
    /// `payments.v1`
    package: String,
    /// `PaymentService`
    name: String,
}

fn check_name(name: &str) -> Result<()> {
    let ensure = |right: bool, reason: &str| {
        ensure!(right, "NAME {name:?}: {reason}");
        Ok(())
    };
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    ensure(
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_part),
        "it must begin with a lower-case letter, and have lower-case letters, digits, - and _ alone",
    )?;
    ensure(
        !name.ends_with(['-', '_']) && name.len() <= 48,
        "it must not end in - or _, nor have more than 48 characters",
    )?;
    ensure(!KEYWORDS.contains(&name), "it is a keyword of Rust")?;
    let is_reserved = RESERVED.split(' ').any(|reserved| reserved == name);
    ensure(
        !is_reserved && name.parse::<IdentityName>().is_ok(),
        "it is reserved; take another one",
    )?;
    let dependency = [format!("{name} = {{"), format!("{name} = \"")];
    let mut dependencies = FILES[0]
        .1
        .lines()
        .take_while(|line| *line != "[lints.rust]");
    ensure(
        !dependencies.any(|line| dependency.iter().any(|start| line.starts_with(start))),
        "a dependency of the service has this name; take another one",
    )
}

impl ServiceName {
    /// `payments.v1.PaymentsService` for `payments`, and `my_service.v1.MyService` for `my-service`.
    fn of_package(name: &str) -> Result<Self> {
        let words: Vec<_> = name.split(['-', '_']).filter(|it| !it.is_empty()).collect();
        let capital = |word: &&str| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        };
        let camel: String = words.iter().map(capital).collect();
        let camel = camel.strip_suffix("Service").unwrap_or(&camel);
        Self::parse(&format!("{}.v1.{camel}Service", words.join("_")))
    }

    fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: String| anyhow!("--service {text:?}: {reason}");
        let shape = "it must be package.vN.NameService, such as payments.v1.PaymentService";
        let shape = || wrong(shape.to_owned());
        let (package, name) = text.rsplit_once('.').ok_or_else(shape)?;
        let (before, version) = package.rsplit_once('.').ok_or_else(shape)?;
        let number = version.strip_prefix('v').unwrap_or_default();
        ensure!(
            number.bytes().all(|b| b.is_ascii_digit())
                && !number.starts_with('0')
                && !number.is_empty(),
            wrong(format!("{version:?} must be a version: v1, v2, ..."))
        );
        let in_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(in_word);
        for segment in before.split('.') {
            ensure!(
                segment.starts_with(|c: char| c.is_ascii_lowercase())
                    && segment.split('_').all(is_word),
                wrong(format!(
                    "{segment:?} must begin with a lower-case letter, and have lower-case letters, digits and single _ alone"
                ))
            );
            let keyword = format!("{segment:?} is a keyword of Rust");
            ensure!(!KEYWORDS.contains(&segment), wrong(keyword));
        }
        let is_camel = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric())
            && !{ name.as_bytes().windows(2) }.any(|two| two.iter().all(u8::is_ascii_uppercase));
        ensure!(
            is_camel && name.ends_with("Service") && name != "Service",
            wrong(format!(
                "{name:?} must be in CamelCase, with no two capitals in a row, and end in Service: PaymentService"
            ))
        );
        Ok(Self {
            package: package.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl Stamp<'_> {
    /// Where a file of the template goes.
    fn file(&self, file: &str) -> PathBuf {
        if file != CONTRACT {
            return file.into();
        }
        let package = &self.service.package;
        let last = package.rsplit('.').nth(1).unwrap_or(package);
        Path::new("proto")
            .join(package.replace('.', "/"))
            .join(format!("{last}.proto"))
    }

    /// The text with these names for those of the template, all in one pass: what was put in is not looked at again.
    fn stamp(&self, text: &str) -> String {
        let ServiceName { package, name } = &self.service;
        // The longer before the shorter, which it begins with.
        let table = [
            ("TemplateService", name.clone()),
            ("template_service", snake(name)),
            ("template::v1", package.replace('.', "::")),
            ("template.v1", package.clone()),
            ("template", self.name.to_owned()),
        ];
        let mut stamped = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match table.iter().find(|(from, _)| rest.starts_with(from)) {
                Some((from, to)) => {
                    stamped.push_str(to);
                    rest = rest.split_at(from.len()).1;
                }
                None => {
                    stamped.push(first);
                    rest = rest.split_at(first.len_utf8()).1;
                }
            }
        }
        stamped
    }
}

/// As the generated modules are named.
fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Where the crates of the library are, when this tool was built in its repository and that is still there.
fn library() -> Option<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    crates
        .join("countersign")
        .join(MANIFEST)
        .is_file()
        .then(|| crates.to_owned())
}

/// The manifest, with the library by its place, or by its version alone.
fn manifest(text: &str, library: Option<&Path>) -> String {
    let located = match library {
        Some(crates) => {
            let crates = toml::Value::String(format!("{}/", crates.display())).to_string();
            let (open, _quote) = crates.split_at(crates.len() - 1);
            text.replace(SIBLING, &format!("path = {open}"))
        }
        None => {
            let lines = text.lines().map(|line| match line.split_once(SIBLING) {
                Some((before, after)) => {
                    let version = after
                        .split_once("\", ")
                        .map_or(after, |(_, version)| version);
                    format!("{before}{version}\n")
                }
                None => format!("{line}\n"),
            });
            lines.collect()
        }
    };
    located + WORKSPACE
}

fn is_workspace(manifest: &PathBuf) -> bool {
    let text = fs::read_to_string(manifest).unwrap_or_default();
    text.parse::<toml::Table>()
        .is_ok_and(|manifest| manifest.contains_key("workspace"))
}

/// Writes all of it beside its place, and moves it there.
fn write(names: &Stamp<'_>, directory: &Path, library: Option<&Path>) -> Result<()> {
    let named = |path: &Path| path.display().to_string();
    ensure!(
        directory.symlink_metadata().is_err(),
        "{}: it exists already; name another directory with --path",
        directory.display()
    );
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let place = parent.canonicalize().with_context(|| named(parent))?;
    if let Some(workspace) = place
        .ancestors()
        .map(|dir| dir.join(MANIFEST))
        .find(is_workspace)
    {
        bail!(
            "{}: it is inside the workspace of {}, and a service is a workspace of its own; name a directory outside with --path",
            directory.display(),
            workspace.display()
        );
    }
    let beside = tempfile::Builder::new()
        .prefix(".countersign-new-")
        .tempdir_in(parent)
        .with_context(|| named(parent))?;
    // Not the temporary directory itself, which only its owner may read.
    let made = beside.path().join("made");
    for (file, text) in FILES {
        let path = made.join(names.file(file));
        let text = names.stamp(text);
        let text = if file == MANIFEST {
            manifest(&text, library)
        } else {
            text
        };
        let dir = path.parent().unwrap_or(&made);
        fs::create_dir_all(dir).with_context(|| named(dir))?;
        fs::write(&path, text).with_context(|| named(&path))?;
    }
    fs::rename(&made, directory).with_context(|| named(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_names_of_its_package_unless_told_otherwise() {
        for (name, package, service, module) in [
            (
                "payments",
                "payments.v1",
                "PaymentsService",
                "payments_service",
            ),
            (
                "card-payments",
                "card_payments.v1",
                "CardPaymentsService",
                "card_payments_service",
            ),
            ("pay2go", "pay2go.v1", "Pay2goService", "pay2go_service"),
            ("my-service", "my_service.v1", "MyService", "my_service"),
        ] {
            let of = ServiceName::of_package(name).ok();
            let expected = ServiceName {
                package: package.to_owned(),
                name: service.to_owned(),
            };
            assert_eq!(of, Some(expected));
            assert_eq!(snake(service), module);
        }
    }

    #[test]
    fn an_installed_tool_names_the_library_by_version() {
        let text = manifest(FILES[0].1, None);
        assert!(
            text.contains("countersign = { version = \"0.1.0\", features = "),
            "{text}"
        );
        assert!(
            text.contains("countersign-build = { version = \"0.1.0\" }"),
            "{text}"
        );
        assert!(!text.contains("path = \"../"), "{text}");
    }
}
