//! gRPC's own authorization policy (gRFC A43), with its audit log (gRFC A59), for tower services.
//!
//! A [`Policy`] is parsed strictly and decides purely: no I/O, no clock, no allocation on an allow.
//! This crate knows a [`identity::Peer`]; it never sees TLS, and reads no file.

mod path;
mod pattern;
