//! The contract in `/proto` as Rust: messages, clients, servers and descriptors, all generated.
//!
//! A protobuf package is a module path: `inventory.v1` is [`inventory::v1`]. There is no hand-written type: change the
//! `.proto` instead. The workspace's lints are off, because they are for hand-written code.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments of a contract are for readers of every language"
)]

include!(concat!(env!("OUT_DIR"), "/mod.rs"));

/// Every message and service, with its imports and comments, as an encoded
/// `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
