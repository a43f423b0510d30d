//! The contract for the library's tests: one service with a method of every kind, and no business logic.
//!
//! It is never published; every service has its own contract.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments of a contract are for readers of every language"
)]

include!(concat!(env!("OUT_DIR"), "/mod.rs"));

pub use countersign::test::v1;

/// Every message and service, with its imports and comments, as an encoded
/// `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
