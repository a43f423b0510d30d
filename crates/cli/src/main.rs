//! The `countersign` tool: certificates and policies for mutual TLS, made, shown and tried out.

fn main() -> std::process::ExitCode {
    countersign_cli::main()
}
