//! The contract in `/proto` as Rust: messages, clients, servers and descriptors, all generated.
//!
//! Each protobuf package is a module: `inventory.v1` is [`inventory::v1`]. No type is hand-written; change the `.proto`
//! instead. The workspace's lints are off here, because they are for hand-written code.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments of a contract are for readers of every language"
)]

include!(concat!(env!("OUT_DIR"), "/mod.rs"));

/// Every message and service, with its imports and comments, as an encoded
/// `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
