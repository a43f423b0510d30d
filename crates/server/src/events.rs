//! The messages of log events. docs/operations.md describes each.

/// "connected to the database again"
pub const CONNECTED_AGAIN: &str = "connected to the database again";
/// "cannot connect to the database; trying again"
pub const CONNECT_FAILED: &str = "cannot connect to the database; trying again";
/// "lost a connection to the database"
pub const CONNECTION_LOST: &str = "lost a connection to the database";
/// "the schema of the database was brought up to date"
pub const MIGRATED: &str = "the schema of the database was brought up to date";
/// "the database did not answer a statement"
pub const STATEMENT_FAILED: &str = "the database did not answer a statement";
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
pub const ALL: &[&str] = &[
    CONNECTED_AGAIN,
    CONNECT_FAILED,
    CONNECTION_LOST,
    MIGRATED,
    STATEMENT_FAILED,
    DATA_FILE_GONE,
    READ_FAILED,
    WRITER_PANICKED,
    WRITE_FAILED,
];
