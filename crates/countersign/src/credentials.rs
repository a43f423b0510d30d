//! The settings that both sides have: where the credentials are, and how they are kept current.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::Args;
use clap::builder::ArgPredicate::IsPresent;
use identity::Role;
#[cfg(feature = "client")]
use mtls::Targets;
use mtls::{
    ExpiredCrls, InvalidCredentials, MissingCrls, Reload, Source, Trust, Wanted, WorkloadApi,
};

#[cfg(feature = "client")]
use crate::client::Connection;
use crate::program::{Duration, tool};

/// What to do about credentials that cannot be used, where a command can help.
pub fn credentials_next_step(error: &InvalidCredentials) -> Option<String> {
    let tool = tool();
    if error.is_missing_file() {
        Some(format!(
            "make development certificates with `{tool} pki init`, or name another directory by --tls-dir"
        ))
    } else if error.is_denied_file() {
        Some(format!(
            "let our user or our group read it: `{tool} pki renew --group GID` does so for development certificates"
        ))
    } else if error.code() == mtls::codes::CERTIFICATE_EXPIRED {
        Some(format!(
            "renew it: `{tool} pki renew` does so for development certificates"
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

    /// The socket of a SPIFFE Workload API, such as SPIRE's agent, that provides identity and trust bundles instead of
    /// files [default: SPIFFE_ENDPOINT_SOCKET, unless a file or a directory is named]
    #[arg(
        long,
        env = "APP_TLS_WORKLOAD_API",
        value_name = "unix:///PATH",
        global = true,
        conflicts_with_all = FILES,
        default_value_ifs = FILES.map(|file| (file, IsPresent, None)),
        default_value = endpoint_socket(),
        hide_default_value = true
    )]
    pub tls_workload_api: Option<WorkloadApi>,

    /// The identity from the Workload API to use, by SPIFFE ID or hint [default: the first]
    #[arg(
        long,
        env = "APP_TLS_WORKLOAD_ID",
        value_name = "spiffe://DOMAIN/PATH|HINT",
        global = true,
        conflicts_with_all = FILES,
        value_parser = clap::value_parser!(Wanted)
    )]
    pub tls_workload_id: Option<Wanted>,

    /// One file with key and chain, instead of tls.key and tls.crt
    #[arg(long, env = "APP_TLS_BUNDLE_FILE", value_name = "FILE", global = true)]
    pub tls_bundle: Option<PathBuf>,

    /// The chain: the leaf, then its intermediates [default: tls.crt in --tls-dir]
    #[arg(
        long,
        env = "APP_TLS_CERT_FILE",
        value_name = "FILE",
        global = true,
        conflicts_with = "tls_bundle"
    )]
    pub tls_cert: Option<PathBuf>,

    /// The private key [default: tls.key in --tls-dir]
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

    /// The revocation lists; if given, the file must exist [default: crl.pem in --tls-dir, if it exists]
    #[arg(long, env = "APP_TLS_CRL_FILE", value_name = "FILE", global = true)]
    pub tls_crl: Option<PathBuf>,

    /// The longest time until changed credentials and policies are in use
    #[arg(
        long,
        env = "APP_TLS_RELOAD_INTERVAL",
        default_value = "1s",
        value_name = "DURATION",
        global = true,
        value_parser = Duration::positive
    )]
    pub tls_reload_interval: Duration,

    /// Refuse every peer whose issuer's revocation list has expired, instead of applying the expired list
    #[arg(long, env = "APP_TLS_REFUSE_EXPIRED_CRL", global = true)]
    pub tls_refuse_expired_crl: bool,

    /// Refuse every peer whose issuer has no revocation list; do not start with a root, or accept a new one, without
    /// its list
    #[arg(long, env = "APP_TLS_REQUIRE_CRL", global = true)]
    pub tls_require_crl: bool,

    /// A file, used by this process only, that records the newest revocation list of each issuer, so that no older one
    /// is accepted after a restart
    #[arg(long, env = "APP_TLS_CRL_STATE", value_name = "FILE", global = true)]
    pub tls_crl_state: Option<PathBuf>,
}

/// The settings that name files.
const FILES: [&str; 6] = [
    "tls_dir",
    "tls_bundle",
    "tls_cert",
    "tls_key",
    "tls_roots",
    "tls_crl",
];

/// Where the platform says that the Workload API is (SPIFFE Workload Endpoint §4).
fn endpoint_socket() -> Option<&'static str> {
    static SOCKET: LazyLock<Option<String>> = LazyLock::new(|| {
        let socket = std::env::var("SPIFFE_ENDPOINT_SOCKET");
        socket.ok().filter(|socket| !socket.is_empty())
    });
    SOCKET.as_deref()
}

impl CredentialSettings {
    /// Opens the credentials for one side of a connection, and keeps them current. A server opens its own; to call a
    /// database or another service, it opens them a second time, as a client. See [`Trust::open`].
    ///
    /// # Errors
    /// [`InvalidCredentials`], which names the file.
    pub fn open(&self, role: Role) -> Result<Trust, InvalidCredentials> {
        Trust::open(role, self.source(), self.reload())
    }

    /// Where the credentials are.
    pub fn source(&self) -> Source {
        if let Some(api) = &self.tls_workload_api {
            let wanted = self.tls_workload_id.clone().unwrap_or_default();
            return Source::workload_api(api.clone().with_svid(wanted));
        }
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

    /// A connection of a server to another service, with the server's own credentials.
    #[cfg(feature = "client")]
    pub fn connection(&self, targets: impl Into<Targets>) -> Connection {
        let reload = self.reload();
        Connection {
            reload,
            ..Connection::new(targets, self.source())
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
            missing_crls: if self.tls_require_crl {
                MissingCrls::Refuse
            } else {
                MissingCrls::Allow
            },
            crl_state: self.tls_crl_state.clone(),
            keep_crl_state: false,
        }
    }
}
