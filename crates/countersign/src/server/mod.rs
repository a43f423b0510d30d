//! A server: given the services of a program, all that is around them.

mod calls;
mod exceeded;
mod first_message;
mod health;
mod limits;
mod load;
mod metrics;
mod run;
mod service;
mod settings;
mod start;

pub use exceeded::ERROR_DOMAIN;
pub use limits::LimitSettings;
pub use run::Server;
pub use service::{BoxError, Service, Services, peer};
pub use settings::{Command, Settings};
pub use start::{StartError, api};
