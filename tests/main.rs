//! The pair as a whole: real sockets, real certificates, real processes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod adversarial;
mod architecture;
mod authority;
mod authorization;
mod balance;
mod calling;
mod circles;
mod credentials;
mod demo;
mod denials;
mod deploy;
mod doctor;
mod documented;
mod drain;
mod errors;
mod floods;
mod foreign;
mod frames;
mod hangs;
mod hogging;
mod interop;
mod limits;
mod load;
mod operations;
mod parts;
mod principals;
mod process_facts;
mod processes;
mod protocol;
mod raw;
mod readme;
mod rotation;
mod scrape;
mod traces;
mod transport;
mod world;
