//! The messages of log events. docs/operations.md describes each.

/// "the data file was removed or replaced; no more writes until a restart"
pub const DATA_FILE_GONE: &str =
    "the data file was removed or replaced; no more writes until a restart";
/// "cannot read the data file"
pub const READ_FAILED: &str = "cannot read the data file";
/// "the thread that writes the data file had panicked"
pub const WRITER_PANICKED: &str = "the thread that writes the data file had panicked";
/// "cannot write the data file; no more writes until a restart"
pub const WRITE_FAILED: &str = "cannot write the data file; no more writes until a restart";

/// All of them.
pub const ALL: &[&str] = &[DATA_FILE_GONE, READ_FAILED, WRITER_PANICKED, WRITE_FAILED];
