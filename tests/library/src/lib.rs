//! What the tests of the library, and those of the pair, are written with: a PKI minted for each test, programs as real
//! processes, peers that write each byte themselves, and the service of the library's tests.

#![expect(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests alone use it, and fail by panicking"
)]

/// The service behind [`test_contract`], as handlers and as the program `echo-server`.
pub mod echo;
/// HTTP/2 frame by frame.
pub mod frames;
/// What the system says about a process.
pub mod process_facts;
/// Connections below the level of a gRPC client.
pub mod raw;
/// The admin port.
pub mod scrape;
/// What a server and the tool say of the same calls.
pub mod verdicts;
/// Certificates, processes, logs, and waiting.
pub mod world;
