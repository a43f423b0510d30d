//! The inventory service: [`service`] implements the RPCs, and [`store`] keeps the data.

pub mod codes;
pub mod events;
mod fair_slots;
mod inventory_error;
mod request;
pub mod service;
pub mod stock;
pub mod store;
pub mod watch;
