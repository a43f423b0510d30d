//! Compiles every `.proto` under `/proto`.

fn main() -> Result<(), countersign_build::BuildError> {
    countersign_build::compile("../../proto")
}
