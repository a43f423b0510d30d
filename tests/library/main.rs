//! The library as a whole: real sockets, real certificates, real processes. Nothing here knows the pair.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use harness::{frames, process_facts, raw, scrape, world};

mod adversarial;
mod authority;
mod authorization;
mod balance;
mod calling;
mod chromium;
mod claims;
mod client_credentials;
mod clock;
mod credentials;
mod denials;
mod doctor;
mod drain;
mod early_signals;
mod floods;
mod foreign;
mod hangs;
mod hogging;
mod keys;
mod limits;
mod load;
mod operations;
mod page;
mod parts;
mod protocol;
mod rotation;
mod system_calls;
mod traces;
mod transport;
mod what_a_service_gets;
