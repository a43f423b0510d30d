//! gRPC over mutual TLS: every peer is authenticated by its certificate, and a policy authorizes every call.
//!
//! A service that trusts its network accepts every caller that can reach it. Here both sides present an X.509
//! certificate, and a policy says who may call what. Both can change while calls run. When a certificate expires or is
//! revoked, or the policy is replaced, the calls that are no longer allowed end.
//!
//! # Serve
//!
//! A server needs its services, their descriptor set, and a policy. Everything else comes from settings (flags and
//! `APP_*` variables): credentials, limits, deadlines, metrics, draining.
//!
//! ```no_run
//! # #[cfg(feature = "server")] mod example {
//! use clap::Parser;
//! use countersign::server::{Service, Services, Settings};
//! # mod echo {
//! #     use tonic_health::pb::health_server::{Health, HealthServer};
//! #     pub const DESCRIPTORS: &[u8] = tonic_health::pb::FILE_DESCRIPTOR_SET;
//! #     pub fn service() -> HealthServer<impl Health> { tonic_health::server::health_reporter().1 }
//! # }
//!
//! const SERVICE: Service = Service {
//!     name: "echo",
//!     descriptors: echo::DESCRIPTORS, // of a build script: countersign_build::compile("proto")
//!     tls_dir: "certs/echo",          // tls.crt, tls.key, ca.crt and, optionally, crl.pem
//!     policy: "policy.json",          // gRFC A43
//! };
//!
//! #[derive(Parser)]
//! struct Echo {
//!     #[command(flatten)]
//!     server: Settings,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let Echo { server } = SERVICE.parse();
//!     SERVICE.server(server).run(async || Ok(Services::new().add_service(echo::service())))
//! }
//! # }
//! ```
//!
//! A handler gets the caller from [`server::peer`]. Test it with
//! [`Peer::unverified_for_tests`](identity::Peer::unverified_for_tests).
//!
//! # Call
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example(descriptors: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! use countersign::client::{self, Connection};
//! use countersign::mtls::{Source, Target};
//!
//! let server = Target::parse("https://echo.internal:50051")?;
//! let connection = Connection::new(server, Source::directory("certs/orders"));
//! let client = client::connect(connection, descriptors)?;
//! let channel = client.channel(); // EchoServiceClient::new(channel)
//! # Ok(())
//! # }
//! ```
//!
//! A server that calls another server makes its client with [`CredentialSettings::connection`], and its requests with
//! [`server::child_request`]. They stay in the trace, and within the deadline, of the call that it answers: see the
//! example `calls_another`.
//!
//! # With an existing server
//!
//! tonic's own server (feature `tonic-server`) and `axum::serve` (feature `axum`) accept [`mtls::Incoming`].
//! [`authz::AuthorizationLayer`] applies the policy before either. [`mtls::server_config`] is for rustls alone. Their
//! documentation says what [`server`] does in addition. The folder `examples` has an example of each.
//!
//! # Modules
//!
//! - [`server`]: serves tonic services; [`client`]: a channel for generated clients
//! - [`admin`]: the plaintext port for probes and scrapers; [`program`]: settings, signals, exit codes
//! - [`identity`]: the identity in a certificate; [`authz`]: who may call what; [`mtls`]: the transport
//! - [`telemetry`]: logs, metrics, traces; [`base`]: code that all of these share

#[cfg(any(feature = "server", feature = "client"))]
pub mod admin;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "server", feature = "client"))]
pub mod codes;
#[cfg(feature = "otlp")]
mod collector;
mod credentials;
pub mod events;
pub mod program;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "client", feature = "otlp"))]
mod server_name;

#[cfg(feature = "server")]
pub use authz;
pub use base;
#[cfg(feature = "otlp")]
pub use collector::CollectorSettings;
pub use credentials::{CredentialSettings, credentials_next_step};
pub use identity::{self, Peer};
pub use mtls;
pub use prometheus_client;
pub use telemetry;
