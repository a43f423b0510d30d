//! The name of the command line tool, as the reader of a message has it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs};

/// How the tool is run here: `cargo cs` in the repository, by its example in a service made with `countersign new`, and
/// `countersign` elsewhere.
pub fn tool() -> &'static str {
    static TOOL: LazyLock<&str> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = package.or_else(|| env::current_dir().ok());
        here.map_or(INSTALLED, |here| tool_of(&here))
    });
    *TOOL
}

const INSTALLED: &str = "countersign";

/// For a program that is run from the package in this directory, by cargo or by hand.
fn tool_of(package: &Path) -> &'static str {
    if package.join("examples/countersign.rs").is_file() {
        return "cargo run --example countersign --";
    }
    let has_alias = |dir: &Path| {
        let text = fs::read_to_string(dir.join(".cargo/config.toml")).unwrap_or_default();
        text.lines().any(|line| line.starts_with("cs = "))
    };
    if package.ancestors().any(has_alias) {
        "cargo cs"
    } else {
        INSTALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_is_named_as_it_is_run_in_the_repository_in_a_stamped_service_and_elsewhere() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(tool_of(here), "cargo cs");
        let template = here.join("../template");
        assert_eq!(tool_of(&template), "cargo run --example countersign --");
        assert_eq!(tool_of(&env::temp_dir()), INSTALLED);
    }
}
