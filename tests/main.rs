//! The pair as a whole: real sockets, real certificates, real processes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod architecture;
mod authority;
mod authorization;
mod credentials;
mod doctor;
mod errors;
mod operations;
mod processes;
mod raw;
mod rotation;
mod transport;
mod world;
