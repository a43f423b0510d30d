//! A server: given the services of a program, all that is around them.

mod calls;
mod health;
mod limits;
mod load;
mod metrics;
mod service;
mod settings;
mod start;

pub use limits::LimitSettings;
pub use load::ERROR_DOMAIN;
pub use service::{BoxError, Service, Services, peer};
pub use settings::{Command, Settings};
pub use start::{StartError, api};
