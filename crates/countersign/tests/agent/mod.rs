//! An agent of the SPIFFE Workload API, as the published `workload.proto` defines it, that says what a test wants; and
//! the trust domains whose SVIDs it hands out.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cli::pki::{Authority, Leaf, LeafSpec, Purpose, Validity};
use countersign::mtls::WorkloadApi;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki_types::PrivateKeyDer;
use pki_types::pem::PemObject as _;
use prost::Message as _;
use tempfile::TempDir;
use test_contract::{X509svid, X509svidResponse};
use time::OffsetDateTime;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;

/// A trust domain with one root.
pub(crate) struct Domain {
    pub(crate) name: &'static str,
    pub(crate) root: Authority,
}

pub(crate) fn lasting(lifetime: Duration) -> Validity {
    let a_little = time::Duration::seconds(2);
    Validity::starting(OffsetDateTime::now_utc() - a_little, lifetime).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

impl Domain {
    pub(crate) fn new(name: &'static str) -> Self {
        let root = Authority::root(&format!("root of {name}"), lasting(HOUR)).unwrap();
        Self { name, root }
    }

    /// A leaf for both sides with these URI names, signed by our root.
    pub(crate) fn leaf(&self, uris: &[&str]) -> Leaf {
        self.leaf_for(uris, HOUR)
    }

    pub(crate) fn leaf_for(&self, uris: &[&str], lifetime: Duration) -> Leaf {
        let mut spec = LeafSpec::client(lasting(lifetime));
        spec.uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        spec.dns = vec!["localhost".to_owned()];
        spec.purposes = vec![Purpose::Server, Purpose::Client];
        self.root.issue(&spec).unwrap()
    }

    pub(crate) fn bundle(&self) -> Vec<u8> {
        self.root.certificate().to_vec()
    }

    /// The SVID of a workload, fresh each time.
    pub(crate) fn svid(&self, workload: &str) -> X509svid {
        self.svid_for(workload, HOUR)
    }

    pub(crate) fn svid_for(&self, workload: &str, lifetime: Duration) -> X509svid {
        let id = format!("spiffe://{}/{workload}", self.name);
        let leaf = self.leaf_for(&[&id], lifetime);
        self.svid_of(&id, &leaf)
    }

    /// This leaf as the SVID of `id`.
    pub(crate) fn svid_of(&self, id: &str, leaf: &Leaf) -> X509svid {
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
        X509svid {
            spiffe_id: id.to_owned(),
            x509_svid: leaf.chain.iter().flat_map(|der| der.to_vec()).collect(),
            x509_svid_key: key.secret_der().to_vec(),
            bundle: self.bundle(),
            hint: String::new(),
        }
    }
}

/// An answer with these SVIDs, and with the bundles of `others`.
pub(crate) fn answer(svids: Vec<X509svid>, others: &[&Domain]) -> X509svidResponse {
    let bundles = others
        .iter()
        .map(|other| (format!("spiffe://{}", other.name), other.bundle()));
    X509svidResponse {
        svids,
        crl: Vec::new(),
        federated_bundles: bundles.collect(),
    }
}

/// What the agent says to everybody who asks.
#[derive(Clone)]
pub(crate) enum Says {
    Message(Bytes),
    Denied,
    Nothing,
}

impl From<X509svidResponse> for Says {
    fn from(response: X509svidResponse) -> Self {
        Self::Message(response.encode_to_vec().into())
    }
}

/// On threads of its own, since whoever opens credentials waits for it.
pub(crate) struct Agent {
    dir: TempDir,
    says: watch::Sender<Says>,
    runtime: Option<Runtime>,
}

impl Agent {
    pub(crate) fn saying(says: impl Into<Says>) -> Self {
        let mut agent = Self::absent();
        agent.says.send_replace(says.into());
        agent.start();
        agent
    }

    /// One that does not run yet.
    pub(crate) fn absent() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            says: watch::Sender::new(Says::Nothing),
            runtime: None,
        }
    }

    pub(crate) fn says(&self, says: impl Into<Says>) {
        self.says.send_replace(says.into());
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn api(&self) -> WorkloadApi {
        let patience = Duration::from_secs(30);
        self.address()
            .parse::<WorkloadApi>()
            .unwrap()
            .with_patience(patience)
    }

    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (socket, says) = (self.socket(), self.says.clone());
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let says = says.clone();
                let service = hyper::service::service_fn(move |request| {
                    let response = respond(&request, &says);
                    async move { Ok::<_, Infallible>(response) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        self.runtime = Some(runtime);
    }

    /// As SIGKILL does: its connections and its socket are gone.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        std::fs::remove_file(self.socket()).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Body = StreamBody<
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>,
>;

fn respond(request: &Request<Incoming>, says: &watch::Sender<Says>) -> Response<Body> {
    assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
    let refused = |code: &str| {
        let body = StreamBody::new(Box::pin(tokio_stream::empty()) as _);
        Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", code)
            .header("grpc-message", "no identity issued")
            .body(body)
            .unwrap()
    };
    // SPIFFE Workload Endpoint §6.
    if request
        .headers()
        .get("workload.spiffe.io")
        .is_none_or(|value| value != "true")
    {
        return refused("3");
    }
    if matches!(*says.borrow(), Says::Denied) {
        return refused("7");
    }
    let frames = WatchStream::new(says.subscribe()).filter_map(|says| match says {
        Says::Message(message) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let frame = [&[0][..], &length, &message].concat();
            Some(Ok(Frame::data(frame.into())))
        }
        Says::Denied => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().unwrap());
            Some(Ok(Frame::trailers(trailers)))
        }
        Says::Nothing => None,
    });
    Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(Box::pin(frames) as _))
        .unwrap()
}
