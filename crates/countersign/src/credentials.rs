//! The settings that both sides have: where the credentials are, and how they are kept current.

use std::path::PathBuf;

use clap::Args;
use mtls::{ExpiredCrls, Reload, Source};

use crate::program::Duration;

/// Where the credentials are, and how they are kept current.
#[derive(Clone, Debug, Args)]
pub struct CredentialSettings {
    /// Directory with tls.crt, tls.key, ca.crt and, optionally, crl.pem
    #[arg(
        long,
        env = "APP_TLS_DIR",
        default_value = "certs",
        value_name = "DIR",
        global = true
    )]
    pub tls_dir: PathBuf,

    /// One file with key and chain, instead of tls.key and tls.crt
    #[arg(long, env = "APP_TLS_BUNDLE_FILE", value_name = "FILE", global = true)]
    pub tls_bundle: Option<PathBuf>,

    /// How soon changed credentials and policies are in use; they are read twice as often
    #[arg(
        long,
        env = "APP_TLS_RELOAD_INTERVAL",
        default_value = "1s",
        value_name = "DURATION",
        global = true,
        value_parser = Duration::positive
    )]
    pub tls_reload_interval: Duration,

    /// Refuse every peer whose issuer's revocation list has expired, rather than honour the old list
    #[arg(long, env = "APP_TLS_REFUSE_EXPIRED_CRL", global = true)]
    pub tls_refuse_expired_crl: bool,
}

impl CredentialSettings {
    /// Where the credentials are.
    pub fn source(&self) -> Source {
        let source = Source::directory(&self.tls_dir);
        match &self.tls_bundle {
            Some(bundle) => source.with_bundle(bundle),
            None => source,
        }
    }

    /// How they are kept current.
    pub fn reload(&self) -> Reload {
        Reload {
            interval: self.tls_reload_interval.0,
            expired_crls: if self.tls_refuse_expired_crl {
                ExpiredCrls::Refuse
            } else {
                ExpiredCrls::Honour
            },
        }
    }
}
