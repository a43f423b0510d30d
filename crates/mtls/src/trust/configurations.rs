//! The rustls configurations of one snapshot.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, ServerConfig};

/// The rustls configurations of one snapshot, each made when it is first needed.
#[derive(Default)]
pub(crate) struct Configurations {
    pub(crate) server: OnceLock<Arc<ServerConfig>>,
    pub(crate) client: OnceLock<Arc<ClientConfig>>,
}
