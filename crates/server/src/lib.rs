//! The inventory service: [`service`] holds the RPCs, and [`store`] the data.

pub mod codes;
pub mod events;
mod inventory_error;
mod request;
pub mod service;
pub mod stock;
pub mod store;
pub mod watch;
