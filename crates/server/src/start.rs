//! From settings to a service that runs: everything is read and checked, then bound, then served.
//!
//! Never half a start: what cannot work is an error before a port is bound.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use admin::Pages;
use app::{InvalidTracing, Stop, Traces};
use authz::{Api, Authorization};
use futures_util::FutureExt as _;
use identity::Role;
use mtls::{Drained, InvalidCredentials, Trust, Unbound};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::service::Routes;
use tracing::{error, info, warn};

use crate::calls::{Bounds, Calls, Deadlines};
use crate::health::Health;
use crate::load::Load;
use crate::metrics::Metrics;
use crate::policy::{PolicyFile, UnusablePolicy};
use crate::service;
use crate::settings::{LimitSettings, Settings};
use crate::store::{OpenError, Store};

/// The name of this service in traces, unless `OTEL_SERVICE_NAME` gives another.
const SERVICE: &str = "inventory";

/// How long the last audit events may take to be written.
const AUDIT_FLUSH: Duration = Duration::from_secs(5);

/// Why the server does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] UnusablePolicy),
    /// Our own API cannot be read, which no setting can mend.
    #[error("the descriptors of the API cannot be read: {0}")]
    Api(String),
    /// A variable of OpenTelemetry's cannot be used.
    #[error(transparent)]
    Tracing(#[from] InvalidTracing),
    /// The data file cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// A port cannot be bound.
    #[error(transparent)]
    Unbound(#[from] Unbound),
    /// A bound port has no address, or reflection or signals cannot be set up.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// Reflection cannot be set up.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The data file could not be written any more while serving.
    #[error("stopped, because the data file cannot be written; what was acknowledged is on disk")]
    DataLost,
    /// Two settings contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

impl StartError {
    /// The exit code for it, one of those in [`app::exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::DataLost => app::exit::FAILED,
            Self::Credentials(_)
            | Self::Policy(_)
            | Self::Api(_)
            | Self::Data(_)
            | Self::Unbound(_)
            | Self::System(_)
            | Self::Tracing(_)
            | Self::Reflection(_)
            | Self::Contradiction(_) => app::exit::USAGE,
        }
    }
}

/// Settings that were checked, with all that they name but the data.
#[derive(Debug)]
pub struct Checked {
    settings: Settings,
    trust: Trust,
    api: Arc<Api>,
    policy: PolicyFile,
    shadow: Option<PolicyFile>,
    traces: Traces,
}

/// Reads and checks everything that the settings name. The data file is left alone, since a running server may have it.
///
/// # Errors
/// [`StartError`], which names the file or the setting.
pub fn check(mut settings: Settings) -> Result<Checked, StartError> {
    settings.limits.check().map_err(StartError::Contradiction)?;
    settings.limits = fitted(settings.limits)?;
    let trust = Trust::open(Role::Server, settings.source(), settings.reload())?;
    let api = Arc::new(api()?);
    let open = |path: &Path| PolicyFile::open(path, &api);
    let policy = open(&settings.policy)?;
    let shadow = settings.shadow_policy.as_deref().map(open).transpose()?;
    let traces = Traces::from_env(SERVICE)?;
    Ok(Checked {
        settings,
        trust,
        api,
        policy,
        shadow,
        traces,
    })
}

/// The limits, with no more connections than there can be open files.
fn fitted(limits: LimitSettings) -> Result<LimitSettings, StartError> {
    let Some(open_files) = app::max_open_files() else {
        return Ok(limits);
    };
    let fitted = limits.fit(open_files).map_err(StartError::Contradiction)?;
    if fitted.max_connections < limits.max_connections {
        warn!(
            open_files,
            wanted = limits.max_connections,
            max_connections = fitted.max_connections,
            "fewer connections than the settings allow, because the process may open few files; raise that limit, as with `ulimit -n`"
        );
    }
    Ok(fitted)
}

/// All that can be called here, for the policy to be held against.
fn api() -> Result<Api, StartError> {
    Api::from_descriptor_set(&proto::SERVED_DESCRIPTOR_SETS.concat())
        .map_err(|e| StartError::Api(e.to_string()))
}

/// Serves until a signal to stop, and then drains; a second signal ends that too.
///
/// # Errors
/// [`StartError`], with nothing left bound.
pub async fn run(checked: Checked) -> Result<(), StartError> {
    let Checked {
        settings,
        trust,
        api,
        policy,
        shadow,
        traces,
    } = checked;
    let mut stop = app::stop_signal()?;
    let mut again = app::stop_signal()?;
    let store = Store::open(&settings.data).await?;
    let listener = mtls::bind(settings.listen).await?;
    let admin = match settings.admin_listen {
        admin::Address::Off => None,
        admin::Address::At(address) => Some(mtls::bind(address).await?),
    };
    let mut health =
        Health::new(&[proto::inventory::v1::inventory_service_server::SERVICE_NAME]).await;
    let routes = routes(&store, &health, &settings)?;
    let kept = store.clone();

    let metrics = Arc::new(Metrics::new(&api, traces.clone()));
    let interval = settings.tls_reload_interval.0;
    let mut background = JoinSet::new();
    background.spawn(health.clone().follow(trust.clone()));
    let mut authorization = Authorization::new(policy.live().clone());
    background.spawn(policy.follow(interval, metrics.policy.clone()));
    if let Some(shadow) = shadow {
        authorization = authorization.with_shadow(shadow.live().clone());
        background.spawn(shadow.follow(interval, metrics.shadow_policy.clone()));
    }
    if let Some(admin) = admin {
        info!(address = %admin.local_addr()?, "admin port listening");
        let pages = pages(&health, &metrics, &trust, &authorization);
        let services = Routes::new(health.service());
        background.spawn(admin::serve(admin, pages, services, std::future::pending()));
    }

    let audited = authorization.clone();
    let deadlines = Deadlines {
        default: settings.limits.default_deadline.0,
        max: settings.limits.max_deadline.0,
    };
    let bounds = Bounds {
        api,
        message_bytes: settings.limits.max_message_size,
        metadata_bytes: usize::try_from(settings.limits.max_header_list_size).unwrap_or(usize::MAX),
    };
    let load = Load::new(
        settings.limits.max_concurrent_calls,
        settings.limits.max_concurrent_calls_per_peer,
    );
    let limits = settings.limits.into();
    say_listening(&listener, &trust)?;
    let drain_delay = settings.limits.drain_delay.0;
    let shutdown = async move {
        until_stop(&mut stop, &store).await;
        health.drain().await;
        sleep(drain_delay).await;
        health.end().await;
    };
    let served = mtls::serve(
        listener,
        trust,
        limits,
        move |peer, authority| {
            let authorized = authorization.for_caller(peer, routes.clone());
            let places = load.caller(peer);
            Calls::new(
                authorized,
                peer,
                authority,
                deadlines,
                bounds.clone(),
                places,
                metrics.clone(),
            )
        },
        shutdown,
    );
    finish(served, &mut again).await;
    if !audited.audit().flush(AUDIT_FLUSH) {
        warn!("the audit log did not take its last events in time");
    }
    // It says itself what it could not send.
    drop(tokio::task::spawn_blocking(move || traces.flush()).await);
    match kept.failed().now_or_never() {
        Some(()) => Err(StartError::DataLost),
        None => Ok(()),
    }
}

fn pages(
    health: &Health,
    metrics: &Arc<Metrics>,
    trust: &Trust,
    authorization: &Authorization,
) -> Pages {
    let (told, told_again) = (health.clone(), health.clone());
    let (metrics, trust, authorization) = (metrics.clone(), trust.clone(), authorization.clone());
    Pages::new(
        move || told.readiness(),
        move |page| {
            metrics.page(&trust, &authorization, page);
            told_again.metrics(page);
        },
    )
}

fn routes(store: &Store, health: &Health, settings: &Settings) -> Result<Routes, StartError> {
    let limits = service::Limits {
        message_bytes: settings.limits.max_message_size,
        ..service::Limits::default()
    };
    let routes = service::routes(store.clone(), limits).add_service(health.service());
    if !settings.reflection {
        return Ok(routes);
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(routes.add_service(reflection))
}

fn say_listening(listener: &TcpListener, trust: &Trust) -> Result<(), StartError> {
    let address = listener.local_addr()?;
    let snapshot = trust.current();
    match snapshot.own() {
        Ok(own) => {
            info!(%address, identity = %own, generation = snapshot.generation(), "listening")
        }
        Err(refusal) => {
            warn!(%address, reason = %refusal, "listening, with credentials that peers will refuse")
        }
    }
    Ok(())
}

async fn until_stop(stop: &mut Stop, store: &Store) {
    tokio::select! {
        () = stop.requested() => info!("asked to stop"),
        () = store.failed() => error!("the data file failed; stopping, because nothing can be acknowledged any more"),
    }
}

/// Waits for the drain to end. The first signal began it, so that the second one is ours.
async fn finish(served: impl Future<Output = Drained>, again: &mut Stop) {
    let mut twice = std::pin::pin!(async {
        again.requested().await;
        again.requested().await;
    });
    tokio::select! {
        drained = served => match drained {
            Drained::Clean => info!("stopped: every call was finished"),
            Drained::Cut(connections) => warn!(connections, "stopped: some connections were cut"),
        },
        () = &mut twice => warn!("asked to stop again: stopped at once"),
    }
}
