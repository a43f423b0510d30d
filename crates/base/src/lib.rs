//! What the Countersign crates share, one definition of each.
//!
//! - [`call`]: how a gRPC call is ended before its time, and how its end is observed
//! - [`backoff`]: how long to wait before the next attempt
//! - [`file`]: how a file that somebody else wrote is read
//! - [`text`]: how foreign text and times are shown
//! - [`metrics`]: how a crate puts its numbers on the page that Prometheus reads
//! - [`reload`]: what became of reading a file again
//! - [`quota`] and [`queue`]: how much is said about one peer, and what waits to be said
//!
//! Services depend on `countersign`, which uses this crate; they rarely need it themselves.

pub mod backoff;
pub mod call;
pub mod file;
pub mod metrics;
pub mod queue;
pub mod quota;
pub mod reload;
pub mod text;
