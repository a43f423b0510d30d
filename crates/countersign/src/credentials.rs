//! The settings that both sides have: where the credentials are, and how they are kept current.

use std::path::PathBuf;

use clap::Args;
use mtls::{ExpiredCrls, InvalidCredentials, Reload, Source};

use crate::program::{Duration, tool};

/// What to do about credentials that cannot be used, where a command can help.
pub fn credentials_next_step(error: &InvalidCredentials) -> Option<String> {
    let tool = tool();
    if error.is_missing_file() {
        Some(format!(
            "make development certificates with `{tool} pki init`, or name another directory by --tls-dir"
        ))
    } else if error.code() == "CERTIFICATE_EXPIRED" {
        Some(format!(
            "renew it: `{tool} pki init` does so for development certificates"
        ))
    } else {
        None
    }
}

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

    /// The certificate and its intermediates [default: tls.crt in --tls-dir]
    #[arg(
        long,
        env = "APP_TLS_CERT_FILE",
        value_name = "FILE",
        global = true,
        conflicts_with = "tls_bundle"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Its key [default: tls.key in --tls-dir]
    #[arg(
        long,
        env = "APP_TLS_KEY_FILE",
        value_name = "FILE",
        global = true,
        conflicts_with = "tls_bundle"
    )]
    pub tls_key: Option<PathBuf>,

    /// The trusted roots [default: ca.crt in --tls-dir]
    #[arg(long, env = "APP_TLS_ROOTS_FILE", value_name = "FILE", global = true)]
    pub tls_roots: Option<PathBuf>,

    /// The revocation lists; given, the file must be there [default: crl.pem in --tls-dir, if it is there]
    #[arg(long, env = "APP_TLS_CRL_FILE", value_name = "FILE", global = true)]
    pub tls_crl: Option<PathBuf>,

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
        let mut source = Source::directory(&self.tls_dir);
        if let Some(bundle) = &self.tls_bundle {
            source = source.with_bundle(bundle);
        }
        if let Some(chain) = &self.tls_cert {
            source = source.with_chain(chain);
        }
        if let Some(key) = &self.tls_key {
            source = source.with_key(key);
        }
        if let Some(roots) = &self.tls_roots {
            source = source.with_roots(roots);
        }
        if let Some(crls) = &self.tls_crl {
            source = source.with_crls(crls);
        }
        source
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
