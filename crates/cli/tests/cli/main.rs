//! The `countersign` tool: what it makes, held against other verifiers, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authority;
mod commands;
mod csr;
mod export;
mod faults;
mod generators;
mod group;
mod lifecycle;
mod openssl;
mod platform;
mod policy;
mod readers;
mod show;
mod stamp;
mod tool;
mod verify;
