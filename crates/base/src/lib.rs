//! Code that the Countersign crates share.
//!
//! - [`api`]: the methods of an API, from its descriptors
//! - [`call`]: the checks, deadline, early end and final status of a gRPC call
//! - [`backoff`]: exponential pauses between attempts
//! - [`file`](mod@file): reads a regular file of limited size
//! - [`json`]: common mistakes in a text that should be JSON
//! - [`pem`]: the sections of a PEM file, or the line with the error
//! - [`text`]: escaping of untrusted text, and timestamps
//! - [`names!`]: stable names, such as error codes, as constants
//! - [`metrics`]: registers metrics whose values are read at each scrape
//! - [`reload`]: the state of files that are reloaded
//! - [`raw`]: a codec that passes gRPC messages on as bytes
//! - [`quota`], [`queue`] and [`writer`]: limits on log lines about one peer, a fair bounded queue, and a thread that
//!   writes what is in it
//!
//! ```
//! use countersign_base::text;
//! use std::time::UNIX_EPOCH;
//!
//! // Untrusted text is escaped before it reaches a terminal or a log.
//! assert_eq!(text::escape("a\u{1b}[2Jb"), r"a\u{1b}[2Jb");
//! assert_eq!(text::timestamp(UNIX_EPOCH), "1970-01-01T00:00:00Z");
//! ```
//!
//! Services depend on `countersign`, which uses this crate, and rarely need it directly.

pub mod api;
pub mod backoff;
pub mod call;
pub mod file;
pub mod json;
pub mod metrics;
mod names;
pub mod pem;
pub mod queue;
pub mod quota;
pub mod raw;
pub mod reload;
pub mod text;
pub mod writer;
