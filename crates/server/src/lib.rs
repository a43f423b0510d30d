//! The inventory service: [`service`] holds the RPCs, and [`store`] the data.

mod refusal;
mod request;
pub mod service;
pub mod store;
mod tables;
mod watch;
