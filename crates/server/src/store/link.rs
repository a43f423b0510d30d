//! A lasting connection to a database over mutual TLS: it is made again when it is lost, and before it gets old.
//!
//! The certificate of the database is verified like that of any peer, and the connection ends when it is no longer
//! accepted. Our own certificate is our only credential.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use countersign::Peer;
use countersign::base::backoff::{Backoff, jittered};
use countersign::base::metrics::CountBy;
use countersign::base::text::in_one_line;
use countersign::mtls::rustls::ClientConfig;
use countersign::mtls::rustls::pki_types::{CertificateDer, ServerName};
use countersign::mtls::{self, ServerIdentity, Trust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use crate::events;
use crate::stock::OpenError;
use crate::store::fault::DatabaseFault;
use crate::store::schema;

/// How long making and checking a connection may take: some ten round trips.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a TCP connection to one address may take.
const TCP_CONNECT: Duration = Duration::from_secs(5);
/// How long what was sent may stay unacknowledged before the connection is lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// About how old a connection gets.
const MAX_AGE: Duration = Duration::from_secs(1800);
/// The time within which the servers move to connections with new credentials, so that not all move at once.
const MOVE_WITHIN: Duration = Duration::from_millis(500);
/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(1);
/// How long calls may continue on a connection that was replaced.
const LINGER: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;

/// A database by its URL, `postgres://USER@HOST[:PORT][,HOST…]/NAME`.
#[derive(Clone, Debug)]
pub struct Database {
    config: Arc<Config>,
    url: String,
}

impl Database {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl FromStr for Database {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        // The URL is not shown: it may contain a secret.
        let refused = |reason: &str| OpenError::Url(reason.to_owned());
        let mut config: Config = url.parse().map_err(|error| refused(&in_one_line(&error)))?;
        if config.get_password().is_some() {
            return Err(refused(
                "it has a password, which is not supported: our certificate authenticates us",
            ));
        }
        if config.get_user().is_none() {
            return Err(refused("it has no user"));
        }
        let tcp = |host: &Host| matches!(host, Host::Tcp(name) if !name.is_empty());
        if config.get_hosts().is_empty() || !config.get_hosts().iter().all(tcp) {
            return Err(refused(
                "it needs the name of a host, which the certificate of the database has too",
            ));
        }
        if config.get_ssl_mode() == SslMode::Disable {
            return Err(refused("it turns TLS off"));
        }
        config
            .ssl_mode(SslMode::Require)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(TCP_CONNECT)
            .tcp_user_timeout(UNACKNOWLEDGED)
            .keepalives_idle(UNACKNOWLEDGED)
            .application_name("inventory");
        Ok(Self {
            config: Arc::new(config),
            url: url.to_owned(),
        })
    }
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseDialer {
    pub(crate) database: Database,
    pub(crate) trust: Trust,
    /// Is notified of each notification of the database.
    pub(crate) notified: Arc<Notify>,
}

impl DatabaseDialer {
    /// A connection that is ready for use, with a schema that this program knows.
    pub(crate) async fn connect(&self) -> Result<Connected, DatabaseFault> {
        let connected = self.dial().await?;
        if connected.schema < schema::newest() {
            schema::bring_up_to_date(&connected.client).await?;
        }
        Ok(connected)
    }

    /// A connection to a database that is fit for use, though its schema may be of an older program.
    pub(crate) async fn dial(&self) -> Result<Connected, DatabaseFault> {
        let snapshot = self.trust.current();
        snapshot
            .own()
            .map_err(|refusal| DatabaseFault::OurCertificate(refusal.clone()))?;
        let generation = snapshot.generation();
        let dialled = async {
            let tls = Connector {
                trust: self.trust.clone(),
                seen: Arc::default(),
            };
            let (client, connection) = self.database.config.connect(tls.clone()).await?;
            let seen = tls
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let (retire, retired) = oneshot::channel();
            let ended = tokio::spawn(drive(
                connection,
                self.trust.clone(),
                seen,
                self.notified.clone(),
                retired,
            ));
            let schema = schema::prepare(&client).await?;
            Ok(Connected {
                client,
                schema,
                generation,
                ended,
                retire,
            })
        };
        timeout(CONNECT, dialled)
            .await
            .unwrap_or(Err(DatabaseFault::TimedOut))
    }
}

/// A connection, and how it ends.
pub(crate) struct Connected {
    pub(crate) client: Client,
    schema: i32,
    generation: u64,
    /// Gives the reason.
    ended: JoinHandle<String>,
    /// Dropped when the connection was replaced.
    retire: oneshot::Sender<()>,
}

/// The verified identity of the database.
type PresentedChain = (Arc<Peer>, Vec<CertificateDer<'static>>);

/// Serves a connection until it ends, the database's certificate is no longer accepted, or the time after its
/// replacement is over. Returns why.
async fn drive(
    mut connection: Connection<Socket, Tls>,
    trust: Trust,
    seen: Option<PresentedChain>,
    notified: Arc<Notify>,
    retired: oneshot::Receiver<()>,
) -> String {
    let served = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(_)) => notified.notify_one(),
                Ok(_) => {}
                Err(error) => return in_one_line(&error),
            }
        }
        "it was closed".to_owned()
    };
    let lost = async {
        match &seen {
            Some((peer, chain)) => mtls::lease_lost(&trust, peer, chain).await,
            None => mtls::Refusal::NoCertificate,
        }
    };
    tokio::select! {
        biased;
        refusal = lost => refusal.to_string(),
        ended = served => ended,
        () = async { drop(retired.await); sleep(LINGER).await } => "it was replaced".to_owned(),
    }
}

/// A lasting connection. Clones share it; it is closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    current: watch::Receiver<Option<Arc<Client>>>,
    doubted: Arc<Notify>,
}

impl Link {
    /// Begins with `first` if given, otherwise makes a connection.
    pub(crate) fn keep(
        name: &'static str,
        dialer: DatabaseDialer,
        first: Option<Connected>,
        connections: Arc<CountBy>,
    ) -> Self {
        let (publish, current) = watch::channel(None);
        let doubted = Arc::new(Notify::new());
        let keeper = Keeper {
            name,
            dialer,
            publish,
            doubted: doubted.clone(),
            connections,
        };
        tokio::spawn(keeper.keep(first));
        Self { current, doubted }
    }

    /// The connection, or the next one if it is made soon.
    pub(crate) async fn client(&self) -> Result<Arc<Client>, DatabaseFault> {
        let mut current = self.current.clone();
        let there = timeout(ACQUIRE, current.wait_for(is_open)).await;
        let there = there.ok().and_then(Result::ok);
        there.and_then(|it| it.clone()).ok_or(DatabaseFault::Away)
    }

    pub(crate) fn is_up(&self) -> bool {
        is_open(&self.current.borrow())
    }

    /// Something took too long on this connection, so it is replaced.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }
}

fn is_open(current: &Option<Arc<Client>>) -> bool {
    current.as_ref().is_some_and(|client| !client.is_closed())
}

struct Keeper {
    name: &'static str,
    dialer: DatabaseDialer,
    publish: watch::Sender<Option<Arc<Client>>>,
    doubted: Arc<Notify>,
    connections: Arc<CountBy>,
}

impl Keeper {
    async fn keep(self, mut next: Option<Connected>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 1.6);
        let mut failed = false;
        loop {
            // The connection in use stays until the next one is ready.
            let made = match next.take() {
                Some(first) => Ok(first),
                None => tokio::select! {
                    made = self.dialer.connect() => made,
                    () = self.publish.closed() => return,
                },
            };
            match made {
                Ok(connected) => {
                    self.connections.add("MADE");
                    if failed {
                        info!(connection = self.name, "{}", events::CONNECTED_AGAIN);
                    }
                    failed = false;
                    backoff.reset();
                    self.publish.send_replace(Some(Arc::new(connected.client)));
                    tokio::select! {
                        () = self.due(connected.generation, connected.ended) => {}
                        () = self.publish.closed() => return,
                    }
                    // From now on the previous connection has a limited time to finish.
                    drop(connected.retire);
                }
                Err(fault) => {
                    self.connections.add("FAILED");
                    if !failed {
                        let error = in_one_line(&fault);
                        warn!(connection = self.name, error, "{}", events::CONNECT_FAILED);
                    }
                    failed = true;
                    tokio::select! {
                        () = sleep(backoff.pause()) => {}
                        () = self.publish.closed() => return,
                    }
                }
            }
        }
    }

    /// Waits until a new connection is needed.
    async fn due(&self, generation: u64, ended: JoinHandle<String>) {
        let mut snapshots = self.dialer.trust.subscribe();
        let renewed = async {
            let newer = snapshots.wait_for(|now| now.generation() != generation);
            drop(newer.await);
            sleep(MOVE_WITHIN.mul_f64(fastrand::f64())).await;
        };
        tokio::select! {
            said = ended => {
                let reason = said.unwrap_or_else(|panic| panic.to_string());
                self.connections.add("LOST");
                warn!(connection = self.name, reason, "{}", events::CONNECTION_LOST);
            }
            () = renewed => self.connections.add("MOVED"),
            () = sleep(jittered(MAX_AGE)) => self.connections.add("MOVED"),
            () = self.doubted.notified() => self.connections.add("DOUBTED"),
        }
    }
}

/// Our TLS for the driver: a handshake by our verifier with our certificate, and the host's name required.
#[derive(Clone)]
struct Connector {
    trust: Trust,
    seen: Arc<Mutex<Option<PresentedChain>>>,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Tls;
    type TlsConnect = DatabaseHandshake;
    type Error = BoxError;

    fn make_tls_connect(&mut self, host: &str) -> Result<DatabaseHandshake, BoxError> {
        let host = ServerName::try_from(host.to_owned())?;
        let mut config = mtls::client_config(&self.trust, ServerIdentity::Name(host.clone()))?;
        // Databases from version 17 on negotiate it, so that another service cannot be substituted for them.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(DatabaseHandshake {
            connector: self.clone(),
            host,
            config,
        })
    }
}

struct DatabaseHandshake {
    connector: Connector,
    host: ServerName<'static>,
    config: ClientConfig,
}

impl TlsConnect<Socket> for DatabaseHandshake {
    type Stream = Tls;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Tls, BoxError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Connector { trust, seen } = self.connector;
            let tls = TlsConnector::from(Arc::new(self.config));
            let stream = tls.connect(self.host, socket).await?;
            let connection = stream.get_ref().1;
            let peer = mtls::peer(&trust, connection)?;
            let chain = connection.peer_certificates().unwrap_or_default().to_vec();
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((peer, chain));
            Ok(Tls(stream))
        })
    }
}

struct Tls(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Tls {
    /// For passwords, which we do not use.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
