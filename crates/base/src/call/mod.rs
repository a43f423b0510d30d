//! A gRPC call: what makes a request one, how long the caller waits, how a call ends early, and the code it ended with.
//!
//! A call that ends early ends with a status, also in the middle of a stream, and its work is dropped.

mod messages;
mod observed;
mod one_answer;
mod protocol;
mod timeout;
mod until;

pub use messages::MessageCount;
pub use observed::{Failed, Observed, code, observed};
pub use one_answer::one_answer;
pub use protocol::{NotACall, has_sound_head, is_call};
pub use timeout::{Deadline, MalformedTimeout, timeout, timeout_value};
pub use until::{Until, trailers, until};
