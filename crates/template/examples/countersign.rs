//! The `countersign` tool, in the version of the library: `cargo run --example countersign -- demo`.

fn main() -> std::process::ExitCode {
    countersign_cli::main()
}
