//! The inventory service.
//!
//! [`settings`] says what it is told, [`start`] makes a running service of it, [`service`] holds the RPCs, and [`store`]
//! the data. Everything else is between them.

mod calls;
mod first_message;
mod health;
mod load;
mod metrics;
mod policy;
mod refusal;
mod request;
pub mod service;
pub mod settings;
pub mod start;
pub mod store;
mod tables;
mod watch;
