//! The inventory service.

mod refusal;
mod request;
pub mod service;
pub mod store;
mod tables;
mod watch;
