//! The inventory service: [`service`] holds the RPCs, and [`store`] the data.

mod refusal;
mod request;
pub mod service;
pub mod stock;
pub mod store;
mod tables;
pub mod watch;
