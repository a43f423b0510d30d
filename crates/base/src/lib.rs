//! What the Countersign crates share, one definition of each.
//!
//! - [`call`]: how a gRPC call is ended before its time, and how its end is observed
//! - [`backoff`]: how long to wait before the next attempt
//! - [`file`](mod@file): how a file that somebody else wrote is read
//! - [`json`]: what a text that is no JSON is instead
//! - [`text`]: how foreign text and times are shown
//! - [`names!`]: stable names, such as error codes, as constants
//! - [`metrics`]: how a crate puts its numbers on the page that Prometheus reads
//! - [`reload`]: what became of reading a file again
//! - [`quota`] and [`queue`]: how much is said about one peer, and what waits to be said
//!
//! ```
//! use countersign_base::text;
//! use std::time::UNIX_EPOCH;
//!
//! // What a stranger wrote never reaches a terminal or a log as it came.
//! assert_eq!(text::escape("a\u{1b}[2Jb"), r"a\u{1b}[2Jb");
//! assert_eq!(text::timestamp(UNIX_EPOCH), "1970-01-01T00:00:00Z");
//! ```
//!
//! Services depend on `countersign`, which uses this crate; they rarely need it themselves.

pub mod backoff;
pub mod call;
pub mod file;
pub mod json;
pub mod metrics;
mod names;
pub mod queue;
pub mod quota;
pub mod reload;
pub mod text;
