//! Compiles `.proto` files from a build script. The compiler is written in Rust, so `protoc` is not needed.
//!
//! `build.rs`:
//!
//! ```no_run
//! fn main() -> Result<(), countersign_build::BuildError> {
//!     countersign_build::compile("proto")
//! }
//! ```
//!
//! `lib.rs`, for the stubs and for the descriptor set that the policy is checked against:
//!
//! ```ignore
//! include!(concat!(env!("OUT_DIR"), "/mod.rs"));
//!
//! pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
//! ```
//!
//! [`descriptors`] and [`descriptors_of`] make only the descriptor set, without stubs. They also work outside build
//! scripts.

use std::collections::HashSet;
use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use protox::Compiler;

/// Why the contract could not be compiled.
#[derive(thiserror::Error)]
pub enum BuildError {
    /// A variable that cargo sets for build scripts is missing.
    #[error("{0} is not set; call this from a build script")]
    NotABuildScript(&'static str),
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is nothing to compile.
    #[error("{}: there is no .proto file in it", .0.display())]
    Empty(PathBuf),
    /// A `.proto` file is wrong; the text begins with the file and the line.
    #[error("{0}")]
    Contract(String),
    /// The generated code could not be written.
    #[error("the stubs cannot be written: {0}")]
    Stubs(#[source] io::Error),
}

/// The same as [`fmt::Display`], because a build script that returns an error shows it by `Debug`.
impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Compiles every `.proto` under `dir`, which is relative to the package. Writes `mod.rs`, with a module for each
/// protobuf package, and `descriptors.bin`, an encoded `google.protobuf.FileDescriptorSet` with its imports and
/// comments, to `OUT_DIR`. The script runs again when a file there changes.
///
/// # Errors
/// [`BuildError`]; of a fault in a `.proto` file it says the file and the line.
pub fn compile(dir: impl AsRef<Path>) -> Result<(), BuildError> {
    compile_to(dir, "")
}

/// The same as [`compile`], but writes to `subdirectory` of `OUT_DIR`: for a package with more than one contract, such
/// as that of a service which it calls. The policy of a server is checked against the contract that it serves, alone.
///
/// # Errors
/// [`BuildError`]; of a fault in a `.proto` file it says the file and the line.
pub fn compile_to(dir: impl AsRef<Path>, subdirectory: impl AsRef<Path>) -> Result<(), BuildError> {
    // Read when the script runs: `env!` would bake in the checkout that a shared target directory was first
    // built from.
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join(dir);
    let out = PathBuf::from(variable("OUT_DIR")?).join(subdirectory);
    // Not a print macro, which the lints keep out of libraries; cargo reads this line.
    drop(writeln!(
        io::stdout(),
        "cargo::rerun-if-changed={}",
        root.display()
    ));
    generate(&root, &out)
}

/// Every `.proto` under `dir`, sorted by path. A directory that a link leads back to is read once.
///
/// # Errors
/// [`BuildError`]: what cannot be read, or that there is none.
pub fn contracts(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>, BuildError> {
    let root = dir.as_ref();
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    find(root, &mut files, &mut seen)?;
    if files.is_empty() {
        return Err(BuildError::Empty(root.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// Every `.proto` under `dir` as an encoded `google.protobuf.FileDescriptorSet`, with imports and comments.
///
/// # Errors
/// [`BuildError`]; of a fault in a `.proto` file it says the file and the line.
pub fn descriptors(dir: impl AsRef<Path>) -> Result<Vec<u8>, BuildError> {
    Ok(compiled(dir.as_ref())?.encode_file_descriptor_set())
}

/// One `.proto` file as an encoded `google.protobuf.FileDescriptorSet`, with imports and comments. An import is looked
/// for in the directory of the file, then in each directory above it.
///
/// # Errors
/// [`BuildError`]; of a fault in a `.proto` file it says the file and the line.
pub fn descriptors_of(file: impl AsRef<Path>) -> Result<Vec<u8>, BuildError> {
    let named = file.as_ref();
    let file = named.canonicalize().map_err(|source| BuildError::File {
        path: named.to_owned(),
        source,
    })?;
    check(named)?;
    let shown = named.parent().unwrap_or(named);
    let mut compiler =
        Compiler::new(file.ancestors().skip(1)).map_err(|error| contract(shown, &error))?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file(&file)
        .map_err(|error| contract(shown, &error))?;
    Ok(compiler.encode_file_descriptor_set())
}

fn generate(root: &Path, out: &Path) -> Result<(), BuildError> {
    let compiler = compiled(root)?;
    let path = out.join("descriptors.bin");
    fs::create_dir_all(out)
        .and_then(|()| fs::write(&path, compiler.encode_file_descriptor_set()))
        .map_err(|source| BuildError::File { path, source })?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out)
        .include_file("mod.rs")
        .compile_fds(compiler.file_descriptor_set())
        .map_err(BuildError::Stubs)
}

fn compiled(root: &Path) -> Result<Compiler, BuildError> {
    let files = contracts(root)?;
    files.iter().try_for_each(|file| check(file))?;
    let mut compiler = Compiler::new([root]).map_err(|error| contract(root, &error))?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)
        .map_err(|error| contract(root, &error))?;
    Ok(compiler)
}

fn variable(name: &'static str) -> Result<String, BuildError> {
    env::var(name).map_err(|_unset| BuildError::NotABuildScript(name))
}

/// Refuses what the compiler would wait for, or would not name: what is no regular file, and what is not UTF-8.
fn check(file: &Path) -> Result<(), BuildError> {
    let unreadable = |source| BuildError::File {
        path: file.to_owned(),
        source,
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    let text = fs::read(file).map_err(unreadable)?;
    let Err(error) = str::from_utf8(&text) else {
        return Ok(());
    };
    let before = text.get(..error.valid_up_to()).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Err(BuildError::Contract(format!(
        "{}:{line}: it is not UTF-8: save it as UTF-8",
        file.display()
    )))
}

/// With the place of the fault before it, as compilers write it, which is in the debug form alone; and with what to do,
/// where the compiler does not say it.
fn contract(root: &Path, error: &protox::Error) -> BuildError {
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    let here = match root.as_os_str().is_empty() {
        true => Path::new("."),
        false => root,
    };
    let place = match error.file() {
        Some(file) => {
            let line = debug
                .split_once(&format!("{file}:"))
                .and_then(|(_, rest)| rest.split_once(": "))
                .map_or_else(String::new, |(line, _)| format!("{line}:"));
            format!("{}:{line} ", root.join(file).display())
        }
        None => format!("{}: ", here.display()),
    };
    let remedy = if text.starts_with("import ") && text.ends_with("not found") {
        format!(": write its path from {}", here.display())
    } else if text.ends_with("found 'edition'") {
        ": editions are not supported, write syntax = \"proto3\"".to_owned()
    } else {
        String::new()
    };
    BuildError::Contract(format!("{place}{text}{remedy}"))
}

fn find(
    dir: &Path,
    files: &mut Vec<PathBuf>,
    seen: &mut HashSet<PathBuf>,
) -> Result<(), BuildError> {
    let unreadable = |source| BuildError::File {
        path: dir.to_owned(),
        source,
    };
    if !seen.insert(dir.canonicalize().map_err(unreadable)?) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            find(&path, files, seen)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A directory with the contract in `proto`, and what is made of it in `out/shop`.
    fn compiled_of(text: &[u8]) -> Result<TempDir, BuildError> {
        let dir = tempfile::tempdir().map_err(BuildError::Stubs)?;
        let package = dir.path().join("proto/shop/v1");
        fs::create_dir_all(&package).map_err(BuildError::Stubs)?;
        fs::write(package.join("shop.proto"), text).map_err(BuildError::Stubs)?;
        generate(&dir.path().join("proto"), &dir.path().join("out/shop"))?;
        Ok(dir)
    }

    #[test]
    fn a_contract_becomes_a_module_for_each_package_and_a_descriptor_set() {
        let contract =
            b"syntax = \"proto3\";\npackage shop.v1;\nmessage Item {\n  string name = 1;\n}\n";
        let Ok(dir) = compiled_of(contract) else {
            panic!("it does not compile")
        };
        let out = dir.path();
        let text = |name: &str| fs::read(out.join("out/shop").join(name)).unwrap_or_default();
        assert!(String::from_utf8_lossy(&text("mod.rs")).contains("pub mod shop"));
        assert!(String::from_utf8_lossy(&text("shop.v1.rs")).contains("struct Item"));
        assert!(!text("descriptors.bin").is_empty());
    }

    #[test]
    fn a_fault_in_a_contract_is_named_with_its_file_and_line() {
        let head = "syntax = \"proto3\";\npackage shop.v1;\n";
        for (contract, expected) in [
            (
                "syntax = \"proto3\";\npackage shop.v1\nmessage Item {}\n".into(),
                "3:1: expected",
            ),
            (
                format!("{head}\nmessage Item {{\n  Missing it = 1;\n}}\n"),
                "5:3: name 'Missing' is not defined",
            ),
            (
                format!("{head}import \"till.proto\";\n"),
                "3:1: import 'till.proto' not found: write its path from ",
            ),
            (
                "edition = \"2023\";\n".into(),
                "1:1: expected 'enum', 'extend', 'import', 'message', 'option', 'service', 'package' or ';', but found \
                 'edition': editions are not supported, write syntax = \"proto3\"",
            ),
            (
                format!("{head}// M\u{fc}ller\nmessage {{}}\n"),
                "4:9: expected",
            ),
        ] {
            let error = compiled_of(contract.as_bytes());
            let error = error.err().map(|error| format!("{error:?}"));
            let error = error.unwrap_or_default();
            let expected = format!("shop/v1/shop.proto:{expected}");
            assert!(error.contains(&expected), "{error}");
        }
        let latin = [head.as_bytes(), b"\n// M\xfcller\n"].concat();
        let error = compiled_of(&latin).err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(
            error.ends_with("shop.proto:4: it is not UTF-8: save it as UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn a_directory_is_read_once_and_only_regular_files_of_it() {
        let contract = b"syntax = \"proto3\";\npackage shop.v1;\nmessage Item {}\n";
        let Ok(dir) = compiled_of(contract) else {
            panic!("it does not compile")
        };
        let out = dir.path();
        let package = out.join("proto/shop/v1");
        let linked = std::os::unix::fs::symlink(out, package.join("again"));
        assert!(linked.is_ok());
        let found = contracts(out.join("proto")).unwrap_or_default();
        assert_eq!(found, [package.join("shop.proto")]);
        for (place, expected) in [
            ("/dev/zero", "not a regular file"),
            ("/nowhere", "No such file"),
        ] {
            let odd = package.join("odd.proto");
            drop(fs::remove_file(&odd));
            let linked = std::os::unix::fs::symlink(place, &odd);
            assert!(linked.is_ok());
            for done in [descriptors(out.join("proto")), descriptors_of(&odd)] {
                let error = done
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default();
                assert!(error.contains(&format!("odd.proto: {expected}")), "{error}");
            }
        }
    }

    #[test]
    fn one_file_is_compiled_with_what_it_imports_from_the_directories_above_it() {
        let contract = b"syntax = \"proto3\";\npackage shop.v1;\nmessage Item {}\n";
        let Ok(dir) = compiled_of(contract) else {
            panic!("it does not compile")
        };
        let out = dir.path();
        let (other, bad) = (out.join("proto/till.proto"), out.join("proto/bad.proto"));
        let head = "syntax = \"proto3\";\npackage till;\nimport \"shop/v1/shop.proto\";\n";
        let written = fs::write(
            &other,
            format!("{head}message Sale {{ shop.v1.Item it = 1; }}\n"),
        );
        let written = written.and_then(|()| fs::write(&bad, format!("{head}message {{}}\n")));
        assert!(written.is_ok(), "{written:?}");
        let both = descriptors_of(&other).unwrap_or_default();
        let both = String::from_utf8_lossy(&both);
        assert!(both.contains("Sale") && both.contains("Item"), "{both}");
        for (file, wanted) in [
            (bad, "bad.proto:4:"),
            (out.join("missing.proto"), "missing.proto: No such file"),
        ] {
            let error = descriptors_of(&file).err().map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn an_empty_or_missing_directory_is_an_error_with_its_path() {
        let Ok(dir) = tempfile::tempdir() else {
            panic!("no directory")
        };
        for (path, wanted) in [
            (dir.path().to_owned(), "there is no .proto file in it"),
            (dir.path().join("missing"), "No such file"),
        ] {
            let error = generate(&path, dir.path()).map_err(|error| error.to_string());
            let error = error.err().unwrap_or_default();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains(wanted), "{error}");
        }
    }
}
