//! Follows the agent of a Workload API and keeps its newest response, also when the agent fails.
//!
//! HTTP/2 over a Unix socket by hyper, one server-streaming call by tonic's client, on a thread with a runtime of its
//! own, so that neither waits for the other. Only the newest response is kept; it is read as often as files are.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use base::backoff::Backoff;
use base::raw::Raw;
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

use crate::trust::invalid::InvalidCredentials;
use crate::trust::invalid_workload::InvalidWorkload;
use crate::trust::material::Material;
use crate::trust::workload::{Answer, WorkloadApi};

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
    api: Arc<WorkloadApi>,
    heard: watch::Receiver<Heard>,
}

/// The last response.
#[derive(Clone, Debug, Default)]
struct Heard {
    answer: Option<Arc<Answer>>,
    /// Why there is nothing newer.
    trouble: Option<InvalidWorkload>,
}

impl Agent {
    /// Asks the agent for the first time, and follows it from then on.
    pub(crate) fn follow(api: WorkloadApi) -> Result<Self, InvalidCredentials> {
        let api = Arc::new(api);
        let (publish, heard) = watch::channel(Heard::default());
        let (tell, answered) = mpsc::sync_channel(1);
        let unreachable = |reason: String| InvalidWorkload::Unreachable {
            socket: api.to_string(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| unreachable(e.to_string()))?;
        let ours = api.clone();
        thread::Builder::new()
            .name("workload-api".to_owned())
            .spawn(move || {
                let follower = Follower {
                    api: &ours,
                    publish,
                    tell,
                };
                runtime.block_on(follower.run());
            })
            .map_err(|e| unreachable(e.to_string()))?;
        match answered.recv_timeout(api.patience) {
            Ok(()) => Ok(Self { api, heard }),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let trouble = heard.borrow().trouble.clone();
                let silent = || unreachable(format!("no answer within {:?}", api.patience));
                Err(trouble.unwrap_or_else(silent).into())
            }
        }
    }

    /// The newest answer, and what keeps a newer one from coming.
    pub(crate) fn read(&self) -> Material {
        let Heard { answer, trouble } = self.heard.borrow().clone();
        let trouble = trouble.map(InvalidCredentials::Workload);
        match answer {
            Some(answer) => Material {
                trouble,
                ..answer.material(&self.api)
            },
            // There is an answer before anybody reads.
            None => Material::nothing(trouble),
        }
    }
}

struct Follower<'a> {
    api: &'a WorkloadApi,
    publish: watch::Sender<Heard>,
    tell: mpsc::SyncSender<()>,
}

impl Follower<'_> {
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
    async fn listen(&self, backoff: &mut Backoff) -> InvalidWorkload {
        let mut answers = match self.ask().await {
            Ok(answers) => answers,
            Err(trouble) => return trouble,
        };
        loop {
            let answer = match answers.message().await {
                Ok(Some(message)) => Answer::read(self.api, &message),
                Ok(None) => return self.unreachable("it ended the stream"),
                Err(status) => return self.trouble(&status),
            };
            match answer {
                Ok(answer) => {
                    backoff.reset();
                    let heard = Heard {
                        answer: Some(Arc::new(answer)),
                        trouble: None,
                    };
                    self.publish.send_replace(heard);
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

    async fn ask(&self) -> Result<tonic::Streaming<Bytes>, InvalidWorkload> {
        let path = self.api.path();
        let socket = timeout(CONNECT, UnixStream::connect(path))
            .await
            .map_err(|_late| self.unreachable("it takes no connection"))?
            .map_err(|e| self.unreachable(&e.to_string()))?;
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MAX_METADATA)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|e| self.unreachable(&base::text::in_one_line(&e)))?;
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
            .map_err(|e| self.unreachable(&base::text::in_one_line(&e)))?;
        let mut request = Request::new(Bytes::new());
        let value = MetadataValue::from_static("true");
        request.metadata_mut().insert(HEADER, value);
        let path = PathAndQuery::from_static(FETCH);
        let response = client.server_streaming(request, path, Raw).await;
        Ok(response.map_err(|e| self.trouble(&e))?.into_inner())
    }

    fn unreachable(&self, reason: &str) -> InvalidWorkload {
        InvalidWorkload::Unreachable {
            socket: self.api.to_string(),
            reason: base::text::escape(reason),
        }
    }

    fn trouble(&self, status: &Status) -> InvalidWorkload {
        let said = format!("{}: {}", status.code(), status.message());
        match status.code() {
            Code::PermissionDenied => InvalidWorkload::Denied {
                socket: self.api.to_string(),
                reason: base::text::escape(&said),
            },
            Code::OutOfRange | Code::Internal | Code::InvalidArgument | Code::Unimplemented => {
                self.api.malformed(said)
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => self.unreachable(&said),
        }
    }
}
