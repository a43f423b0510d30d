//! The `countersign` tool as a library: what its commands do, without a command line around it.
//!
//! Certificates are made here for development and tests. Nothing here is linked into the server or the client.

pub mod pki;
