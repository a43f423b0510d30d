//! Follows the agent of a Workload API and keeps its newest response, also when the agent fails.
//!
//! HTTP/2 over a Unix socket by hyper, one server-streaming call by tonic's client, on a thread with a runtime of its
//! own, so that neither waits for the other. Only the newest response is kept; it is read as often as files are.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base::backoff::Backoff;
use base::raw::Raw;
use base::text::{escape, in_one_line};
use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tower::{ServiceExt as _, service_fn};

use crate::codes;
use crate::trust::invalid::InvalidCredentials;
use crate::trust::material::{Material, NewLists};
use crate::trust::workload::WorkloadApi;

const FETCH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// The agent requires it, so that a web page cannot make a browser ask (SPIFFE Workload Endpoint §6).
const HEADER: &str = "workload.spiffe.io";

/// A longer response is refused; this is the default limit of gRPC clients.
const MAX_MESSAGE: usize = 4 << 20;

/// How many bytes the agent may send before they are read.
const WINDOW: u32 = 64 << 10;

/// Bytes of the metadata of an answer.
const MAX_METADATA: u32 = 16 << 10;

/// How long a socket may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);

/// Pauses between attempts. An agent that was restarted is found soon, since it is on this machine.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// An agent whose stream is read. Clones share it; the stream ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    heard: watch::Receiver<Material>,
}

impl Agent {
    /// Asks the agent for the first time, and follows it from then on.
    pub(crate) fn follow(api: &WorkloadApi) -> Result<Self, InvalidCredentials> {
        let patience = api.patience;
        let silent = api.unreachable(&format!("no answer within {patience:?}"));
        let failed = |error: &io::Error| api.unreachable(&error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(&e))?;
        let (publish, heard) = watch::channel(nothing(&silent));
        let (tell, answered) = mpsc::sync_channel(1);
        let follower = Follower {
            api: api.clone(),
            publish,
            tell,
        };
        thread::Builder::new()
            .name("workload-api".to_owned())
            .spawn(move || runtime.block_on(follower.run()))
            .map_err(|e| failed(&e))?;
        match answered.recv_timeout(patience) {
            Ok(()) => Ok(Self { heard }),
            Err(_late) => Err(heard.borrow().trouble.clone().unwrap_or(silent)),
        }
    }

    /// The newest answer, and what keeps a newer one from coming.
    pub(crate) fn read(&self) -> Material {
        self.heard.borrow().clone()
    }
}

/// What there is before the first answer.
fn nothing(why: &InvalidCredentials) -> Material {
    Material {
        chain: Err(why.clone()),
        key: None,
        bundles: Vec::new(),
        lists: NewLists {
            path: "the Workload API".into(),
            file: Err(why.clone()),
        },
        id: None,
        trouble: Some(why.clone()),
    }
}

struct Follower {
    api: WorkloadApi,
    publish: watch::Sender<Material>,
    tell: mpsc::SyncSender<()>,
}

impl Follower {
    async fn run(self) {
        let mut backoff = Backoff::new(MIN_PAUSE, MAX_PAUSE, 1.6);
        loop {
            let trouble = tokio::select! {
                () = self.publish.closed() => return,
                trouble = self.listen(&mut backoff) => trouble,
            };
            self.publish
                .send_modify(|heard| heard.trouble = Some(trouble));
            tokio::select! {
                () = self.publish.closed() => return,
                () = sleep(backoff.pause()) => {}
            }
        }
    }

    /// Reads responses until the stream ends, and returns why.
    async fn listen(&self, backoff: &mut Backoff) -> InvalidCredentials {
        let mut answers = match self.ask().await {
            Ok(answers) => answers,
            Err(trouble) => return trouble,
        };
        loop {
            let answer = match answers.message().await {
                Ok(Some(message)) => self.api.read(&message),
                Ok(None) => return self.api.unreachable("it ended the stream"),
                Err(status) => return self.trouble(&status),
            };
            match answer {
                Ok(answer) => {
                    backoff.reset();
                    self.publish.send_replace(answer);
                    // Only the first response is waited for.
                    self.tell.try_send(()).ok();
                }
                // The stream goes on: the next one may be better.
                Err(trouble) => self
                    .publish
                    .send_modify(|heard| heard.trouble = Some(trouble)),
            }
        }
    }

    async fn ask(&self) -> Result<tonic::Streaming<Bytes>, InvalidCredentials> {
        let path = self.api.path();
        let socket = timeout(CONNECT, UnixStream::connect(path))
            .await
            .map_err(|_late| self.api.unreachable("it takes no connection"))?
            .map_err(|e| self.api.unreachable(&e.to_string()))?;
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MAX_METADATA)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|e| self.api.unreachable(&in_one_line(&e)))?;
        // It ends with the stream, or the stream with it.
        tokio::spawn(connection);
        let service = service_fn(move |request: http::Request<Body>| {
            let mut send = send.clone();
            async move { send.send_request(request).await }
        });
        let origin = http::Uri::from_static("http://localhost");
        let mut client =
            Grpc::with_origin(service.boxed_clone(), origin).max_decoding_message_size(MAX_MESSAGE);
        client
            .ready()
            .await
            .map_err(|e| self.api.unreachable(&in_one_line(&e)))?;
        let mut request = Request::new(Bytes::new());
        let value = MetadataValue::from_static("true");
        request.metadata_mut().insert(HEADER, value);
        let path = PathAndQuery::from_static(FETCH);
        let response = client.server_streaming(request, path, Raw).await;
        Ok(response.map_err(|e| self.trouble(&e))?.into_inner())
    }

    fn trouble(&self, status: &Status) -> InvalidCredentials {
        let said = format!("{}: {}", status.code(), status.message());
        let is_unusable = [
            Code::OutOfRange,
            Code::Internal,
            Code::InvalidArgument,
            Code::Unimplemented,
        ];
        if is_unusable.contains(&status.code()) {
            return self.api.malformed(&said);
        }
        if status.code() != Code::PermissionDenied {
            return self.api.unreachable(&said);
        }
        let (api, reason) = (&self.api, escape(&said));
        let text = format!(
            "the agent at {api} gives this process no identity: {reason}; register an entry whose selectors match this process"
        );
        InvalidCredentials::new(codes::WORKLOAD_API_DENIED, text)
    }
}
