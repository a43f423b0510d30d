//! What the Countersign crates share, one definition of each.
//!
//! - [`call`]: how a gRPC call is ended before its time, and how its end is observed
//! - [`file`]: how a file that somebody else wrote is read
//! - [`json`]: what a text that is no JSON is instead
//! - [`text`]: how foreign text and times are shown
//!
//! Services depend on `countersign`, which uses this crate; they rarely need it themselves.

pub mod call;
pub mod file;
pub mod json;
pub mod text;
