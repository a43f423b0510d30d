//! The pair as a whole over real sockets and processes, and the rules of this house.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod architecture;
mod authorization;
mod circles;
mod database;
mod demo;
mod deploy;
mod documented;
mod errors;
mod interop;
mod mutants;
mod policy_docs;
mod principals;
mod processes;
mod readme;
mod traces;
mod world;
