//! The `countersign` tool: makes, shows and checks certificates and policies for mutual TLS.

fn main() -> std::process::ExitCode {
    countersign_cli::main()
}
