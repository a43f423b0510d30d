//! The `countersign` tool.
fn main() {}
