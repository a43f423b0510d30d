//! Whether a request is a gRPC call, and the end of one: what else may end it than itself, a deadline, a lost right, a panic, and how it ended.
//!
//! Every side of a call ends it by the same rule: whoever waits for it gets a status, also in the middle of a stream,
//! and what worked for it is dropped. This crate knows no peer, no policy, no clock and no socket.

mod contain;
mod first_message;
mod messages;
mod observed;
mod one_answer;
mod protocol;
mod timeout;
mod until;

pub use contain::{Contained, ContainedBody, contain, panicked};
pub use first_message::first_message;
pub use messages::{MessageCount, messages};
pub use observed::{Failed, Observed, code, observed};
pub use one_answer::one_answer;
pub use protocol::{NotACall, is_call};
pub use timeout::{MalformedTimeout, timeout};
pub use until::{Until, UntilBody, trailers, until, until_body};
