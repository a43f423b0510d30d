//! Compiles the `.proto` under `proto` to Rust, and to the descriptor set that reflection and the policy
//! checks read. The compiler is written in Rust, so nobody needs `protoc`.

use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protox::Compiler;

fn main() -> Result<(), Box<dyn Error>> {
    // Read when the script runs: `env!` would bake in the checkout that a shared target directory was first
    // built from.
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", root.display());

    let mut compiler = Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(proto_files(&root)?)?;

    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .build_transport(false)
        .include_file("mod.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn proto_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
