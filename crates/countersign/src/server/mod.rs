//! A server: given the services of a program, all that is around them.

mod call;
mod calls;
mod exceeded;
mod health;
mod limits;
mod load;
mod metrics;
mod request_body;
mod service;
mod settings;
mod start;
mod table;

pub use exceeded::ERROR_DOMAIN;
pub use limits::LimitSettings;
pub use service::{BoxError, Server, Service, Services, peer};
pub use settings::{Command, Settings};
pub use start::{StartError, api};
