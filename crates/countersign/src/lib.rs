//! Serve and call gRPC over mutual TLS: every peer proves who it is, and every call is authorized by that.

#[cfg(any(feature = "server", feature = "client"))]
pub mod admin;
#[cfg(feature = "client")]
pub mod client;
mod credentials;
pub mod program;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "server")]
pub use authz;
pub use base;
pub use credentials::CredentialSettings;
pub use identity::{self, Peer};
pub use mtls;
pub use prometheus_client;
pub use telemetry;
