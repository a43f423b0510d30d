//! Starts a server: every setting is read and checked, then the ports are bound, then the services are served.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authz::{Api, Authorization, InvalidApi, PolicyFile, UnusablePolicy};
use http::{Request, Response};
use identity::Role;
use mtls::{Drained, InvalidCredentials, Reload, Trust, Unbound};
use telemetry::{InvalidTracing, Traces};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tracing::{error, info, warn};

use crate::admin::{self, Pages};
use crate::credentials::credentials_next_step;
use crate::events;
use crate::program::{self, LastResort, Stop, exit};
use crate::server::calls::{ConnectionService, ServicePort};
use crate::server::health::Health;
use crate::server::limits::LimitSettings;
use crate::server::load::Load;
use crate::server::metrics::Metrics;
use crate::server::page::{self, Page};
use crate::server::service::{BoxError, Register, Service, Services};
use crate::server::settings::{Command, Settings};
use crate::server::table::ServiceTable;

/// How long shutdown may take after the drain, for the audit log, the spans and the data file. Then the process is
/// ended by force.
const END: Duration = Duration::from_secs(10);

/// How long the last audit events may take to be written.
const AUDIT_FLUSH: Duration = Duration::from_secs(5);

/// Why the server does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] UnusablePolicy),
    /// Our own API cannot be read, which no setting can fix.
    #[error("the descriptors of the API cannot be read: {0}")]
    Api(String),
    /// A variable of OpenTelemetry's cannot be used.
    #[error(transparent)]
    Tracing(#[from] InvalidTracing),
    /// The API has no service of this name, so no policy could be checked against it.
    #[error("the descriptor set has no service {0}, which the server should serve")]
    NotDescribed(&'static str),
    /// Two services have this name.
    #[error("the service {0} is added twice; the server adds health and reflection itself")]
    ServedTwice(&'static str),
    /// A service cannot be made ready.
    #[error("{0}")]
    Service(#[source] BoxError),
    /// A port cannot be bound.
    #[error(transparent)]
    Unbound(#[from] Unbound),
    /// A bound port has no address, or reflection or signals cannot be set up.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// Reflection cannot be set up.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A service failed for good while serving.
    #[error("stopped: {0}")]
    Failed(String),
    /// Two settings contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// A signal to stop came before there was a result.
    #[error("asked to stop")]
    Interrupted,
}

impl StartError {
    /// What to do about it, where a command can help.
    pub fn next_step(&self) -> Option<String> {
        if let Self::Credentials(error) = self {
            return credentials_next_step(error);
        }
        let no_policy = matches!(self, Self::Policy(UnusablePolicy::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound);
        no_policy.then(|| "put it there, or name another by --policy".to_owned())
    }

    /// The exit code for it, one of those in [`exit`].
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Failed(_) | Self::Interrupted) {
            exit::FAILED
        } else {
            exit::USAGE
        }
    }
}

/// Checked settings, with everything that they name.
#[derive(Debug)]
pub(crate) struct Checked {
    service: Service,
    settings: Settings,
    trust: Trust,
    api: Arc<Api>,
    policy: PolicyFile,
    shadow: Option<PolicyFile>,
    traces: Traces,
}

/// Reads and checks everything that the settings name. A check beside a running server changes none of its files.
///
/// # Errors
/// [`StartError`], which names the file or the setting.
pub(crate) fn check(service: &Service, mut settings: Settings) -> Result<Checked, StartError> {
    settings.limits.check().map_err(StartError::Contradiction)?;
    settings.limits = fitted(settings.limits)?;
    let reload = Reload {
        keep_crl_state: settings.command == Some(Command::Check),
        ..settings.credentials.reload()
    };
    let trust = Trust::open(Role::Server, settings.credentials.source(), reload)?;
    let mut api = api(service.descriptors).map_err(|e| StartError::Api(e.to_string()))?;
    if settings.browser_page {
        api = api.with(page::PATH);
    }
    let api = Arc::new(api);
    let open = |path: &Path| PolicyFile::open(path, &api);
    let policy = open(&settings.policy)?;
    let shadow = settings.shadow_policy.as_deref().map(open).transpose()?;
    #[cfg(feature = "otlp")]
    let traces = settings.collector.traces(service.name, &trust)?;
    #[cfg(not(feature = "otlp"))]
    let traces = Traces::from_env(service.name)?;
    Ok(Checked {
        service: *service,
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
    let Some(open_files) = program::max_open_files() else {
        return Ok(limits);
    };
    let fitted = limits.fit(open_files).map_err(StartError::Contradiction)?;
    if fitted.max_connections < limits.max_connections {
        warn!(
            open_files,
            wanted = limits.max_connections,
            max_connections = fitted.max_connections,
            "{}",
            events::FEWER_CONNECTIONS
        );
    }
    Ok(fitted)
}

/// Everything that can be called on a server whose own API has these descriptors, including health and reflection. Its
/// policy is checked against this. A policy may also name the page for browsers.
///
/// # Errors
/// [`InvalidApi`].
pub fn api(descriptors: &[u8]) -> Result<Api, InvalidApi> {
    let sets = [
        descriptors,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    // Descriptor sets one after the other are one set.
    Ok(Api::from_descriptor_set(&sets.concat())?.with_optional(page::PATH))
}

/// Makes the services with `build`, serves them until a signal to stop, and then drains; a second signal ends the
/// drain.
///
/// # Errors
/// [`StartError`], with nothing left bound.
pub(crate) async fn run<B, F>(
    checked: Checked,
    [mut stop, again]: [Stop; 2],
    build: B,
) -> Result<(), StartError>
where
    B: FnOnce() -> F,
    F: Future<Output = Result<Services, BoxError>>,
{
    let limits = &checked.settings.limits;
    let stopping = program::last_resort(limits.drain_delay.0 + limits.drain_timeout.0 + END)?;
    match stop.or(build()).await {
        Some(built) => {
            let services = built.map_err(StartError::Service)?;
            serve(checked, services, stopping, [stop, again]).await
        }
        None => {
            info!("{}", events::ASKED_TO_STOP);
            Ok(())
        }
    }
}

/// Not generic, so that what each call runs through is compiled in this crate and not in each program.
async fn serve(
    checked: Checked,
    services: Services,
    stopping: LastResort,
    [mut stop, mut again]: [Stop; 2],
) -> Result<(), StartError> {
    let Checked {
        service,
        settings,
        trust,
        api,
        policy,
        shadow,
        traces,
    } = checked;
    let Services {
        mut table,
        failed,
        readiness,
        metrics: of_services,
    } = services;
    let names: Vec<&str> = table.names().collect();
    let described = api.services();
    if let Some(name) = names.iter().find(|name| !described.contains(*name)) {
        return Err(StartError::NotDescribed(name));
    }
    let own = Api::from_descriptor_set(service.descriptors);
    let own = own.map_err(|e| StartError::Api(e.to_string()))?;
    for service in own.services().iter().filter(|name| !names.contains(name)) {
        warn!(service, "{}", events::SERVICE_NOT_SERVED);
    }
    let listener = mtls::bind(settings.listen).await?;
    let admin = match settings.admin_listen {
        admin::Address::Off => None,
        admin::Address::At(address) => Some(mtls::bind(address).await?),
    };
    let first = readiness.borrow().clone();
    let mut health = Health::new(&names, first).await;
    add(&mut table, health.service());
    if settings.reflection {
        add(&mut table, reflection(&service)?);
    }
    if let Some(name) = twice(&table) {
        return Err(StartError::ServedTwice(name));
    }

    let metrics = Arc::new(Metrics::new(&api, traces.clone(), settings.log_calls));
    let interval = settings.credentials.tls_reload_interval.0;
    let mut background = JoinSet::new();
    background.spawn(health.clone().follow(trust.clone(), readiness));
    let mut authorization = Authorization::new(policy.live().clone());
    background.spawn(policy.follow(interval, metrics.policy.clone()));
    if let Some(shadow) = shadow {
        authorization = authorization.with_shadow(shadow.live().clone());
        background.spawn(shadow.follow(interval, metrics.shadow_policy.clone()));
    }
    if let Some(admin) = admin {
        info!(address = %admin.local_addr()?, "{}", events::ADMIN_LISTENING);
        let pages = pages(&health, &metrics, &trust, &authorization, of_services);
        let services = Routes::new(health.service());
        background.spawn(admin::serve(admin, pages, services, std::future::pending()));
    }

    let audited = authorization.clone();
    let (drain_streams, draining) = tokio::sync::watch::channel(false);
    let load = Load::new(
        settings.limits.max_concurrent_calls,
        settings.limits.max_concurrent_calls_per_peer,
    );
    let limits = settings.limits.into();
    say_listening(&listener, &trust)?;
    let drain_delay = settings.limits.drain_delay.0;
    let (fail, mut failure) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        tokio::select! {
            () = stop.requested() => info!("{}", events::ASKED_TO_STOP),
            reason = failed => {
                error!(reason, "{}", events::SERVICE_FAILED);
                // Its receiver is below, in this function.
                fail.send(reason).ok();
            }
        }
        stopping.begin();
        health.drain().await;
        sleep(drain_delay).await;
        drain_streams.send_replace(true);
        health.end().await;
    };
    let port = Arc::new(ServicePort {
        services: table,
        page: settings.browser_page.then(|| Page::new(service.name)),
        limits: settings.limits,
        methods: api.methods().collect(),
        api,
        metrics,
        draining,
    });
    let served = mtls::serve_incoming(
        listener,
        trust,
        limits,
        move |peer, lease| {
            let (gate, slots) = (authorization.gate(peer), load.caller(peer));
            ConnectionService::new(port.clone(), peer, gate, lease, slots)
        },
        shutdown,
    );
    finish(served, &mut again).await;
    if !audited.audit().flush(AUDIT_FLUSH) {
        warn!("{}", events::AUDIT_UNFINISHED);
    }
    // It logs what it could not send.
    drop(tokio::task::spawn_blocking(move || traces.flush()).await);
    match failure.try_recv() {
        Ok(reason) => Err(StartError::Failed(reason)),
        Err(_not_failed) => Ok(()),
    }
}

fn add<S>(table: &mut ServiceTable, service: S)
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    table.add(S::NAME, service);
}

/// A name that two services have.
fn twice(table: &ServiceTable) -> Option<&'static str> {
    let mut seen = HashSet::new();
    table.names().find(|name| !seen.insert(*name))
}

fn pages(
    health: &Health,
    metrics: &Arc<Metrics>,
    trust: &Trust,
    authorization: &Authorization,
    of_services: Vec<Register>,
) -> Pages {
    let mut registry = metrics.registry(trust, authorization);
    health.register(&mut registry);
    for register in of_services {
        register(&mut registry);
    }
    let health = health.clone();
    Pages::new(move || health.readiness(), registry)
}

fn reflection(
    service: &Service,
) -> Result<ServerReflectionServer<impl ServerReflection>, StartError> {
    Ok(tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(service.descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?)
}

fn say_listening(listener: &TcpListener, trust: &Trust) -> Result<(), StartError> {
    let address = listener.local_addr()?;
    let snapshot = trust.current();
    match snapshot.own() {
        Ok(own) => {
            info!(%address, identity = %own, generation = snapshot.generation(), "{}", events::LISTENING)
        }
        Err(refusal) => {
            warn!(%address, reason = %refusal, "{}", events::LISTENING_UNACCEPTED)
        }
    }
    Ok(())
}

/// Waits for the drain to end, or for a second signal.
async fn finish(served: impl Future<Output = Drained>, again: &mut Stop) {
    let mut twice = std::pin::pin!(async {
        again.requested().await;
        again.requested().await;
    });
    tokio::select! {
        drained = served => match drained {
            Drained::Clean => info!("{}", events::STOPPED),
            Drained::Cut(connections) => warn!(connections, "{}", events::STOPPED_CUT),
        },
        () = &mut twice => warn!("{}", events::STOPPED_AT_ONCE),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cli::pki::{Authority, LeafSpec, Purpose, Validity};
    use tonic_health::pb::health_server::HealthServer;

    use super::*;

    #[test]
    fn the_services_must_be_those_of_the_descriptors_and_not_those_that_the_server_adds() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            settings: Settings,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let now = time::OffsetDateTime::now_utc();
        let validity = Validity::starting(now, Duration::from_secs(3600)).unwrap();
        let root = Authority::root("test root", validity).unwrap();
        let mut spec = LeafSpec::client(validity);
        spec.purposes = vec![Purpose::Server];
        spec.dns = vec!["localhost".to_owned()];
        let leaf = root.issue(&spec).unwrap();
        fs::write(path("tls.key"), &leaf.key_pem).unwrap();
        fs::write(path("tls.crt"), &leaf.chain_pem).unwrap();
        fs::write(path("ca.crt"), root.certificate_pem()).unwrap();
        let policy = r#"{"name": "all", "allow_rules": [{"name": "all"}]}"#;
        fs::write(path("policy.json"), policy).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let refused = |services: Services| {
            let (files, policy) = (dir.path().display().to_string(), path("policy.json"));
            let arguments = ["server", "--tls-dir", &files, "--policy", &policy];
            let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "off"];
            let Program { settings } = clap::Parser::parse_from(arguments.iter().chain(&ports));
            let service = Service {
                name: "echo",
                descriptors: test_contract::FILE_DESCRIPTOR_SET,
                tls_dir: "",
                policy: "",
            };
            let stops = program::first_signals().unwrap();
            let ran = runtime.block_on(async {
                let checked = check(&service, settings).unwrap();
                run(checked, stops, || async { Ok(services) }).await
            });
            ran.unwrap_err().to_string()
        };
        let (_, health) = tonic_health::server::health_reporter();
        let health: HealthServer<_> = health;
        assert_eq!(
            refused(Services::new().add_service(health)),
            "the service grpc.health.v1.Health is added twice; the server adds health and reflection itself"
        );
        let reflection = tonic_reflection::server::Builder::configure();
        let older = reflection.build_v1alpha().unwrap();
        assert_eq!(
            refused(Services::new().add_service(older)),
            "the descriptor set has no service grpc.reflection.v1alpha.ServerReflection, which the server should serve"
        );
    }
}
