//! Serves gRPC services with credentials, policy, limits, health, metrics and draining.

mod call;
mod call_state;
mod calls;
mod ends;
mod exceeded;
mod health;
mod limits;
mod load;
mod metrics;
mod page;
mod request_body;
mod run;
mod service;
mod settings;
mod start;
mod table;

pub use exceeded::ERROR_DOMAIN;
pub use limits::LimitSettings;
pub use run::Server;
pub use service::{BoxError, Service, Services, child_request, peer};
pub use settings::{Command, Settings};
pub use start::{StartError, api};
