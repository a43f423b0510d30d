//! How the reader of a message runs this tool.

use std::path::Path;

/// The name of the package of this tool, which cargo gives to what it runs.
const PACKAGE: &str = env!("CARGO_PKG_NAME");

/// What to type for this tool: `cargo cs` in its repository, `cargo run --example countersign --` in a workspace that
/// `countersign new` made, `countersign` where it is installed.
pub fn tool_name() -> &'static str {
    let executable = std::env::current_exe().unwrap_or_default();
    let package = std::env::var("CARGO_PKG_NAME").ok();
    name(&executable, package.as_deref())
}

fn name(executable: &Path, package: Option<&str>) -> &'static str {
    // Cargo puts examples into a folder of that name. An installed tool may run under cargo too, as from a test.
    let is_example = executable
        .parent()
        .is_some_and(|parent| parent.ends_with("examples"));
    match package {
        Some(PACKAGE) => "cargo cs",
        Some(_) if is_example => "cargo run --example countersign --",
        Some(_) | None => "countersign",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_has_the_name_by_which_it_was_run() {
        for (executable, package, expected) in [
            ("/usr/bin/countersign", None, "countersign"),
            ("/usr/bin/countersign", Some("payments"), "countersign"),
            ("/r/target/debug/countersign", Some(PACKAGE), "cargo cs"),
            ("/r/target/debug/countersign", None, "countersign"),
            (
                "/p/target/debug/examples/countersign",
                Some("payments"),
                "cargo run --example countersign --",
            ),
        ] {
            assert_eq!(name(Path::new(executable), package), expected);
        }
    }
}
